/*
 * See subscription.h: how one begins and ends, and what it delivers.
 *
 * An iteration of the loop delivers a bounded batch: a burst of events must not keep a guest waiting. The rest waits
 * for a later iteration, as one more owner of the subscription.
 */
#include "feature_macros.h"

#include "subscription.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "napi_call.h"
#include "napi_promise.h"

/*
 * How long the end of a process or worker waits for libzonecfg. Leaving the section waits for an
 * event to come back through the channel, which a stuck subscriber elsewhere on the node can prevent for ever.
 */
#define	SHUTDOWN_MS	2000

/* Items that one iteration of the loop delivers. */
#define	ITEMS_PER_ITERATION	256

/* On libzonecfg's thread or the section's. The queue holds one wake-up, or two, of no size. */
static void
wake(void *arg)
{
	subscription_t *sub = arg;

	(void) napi_call_threadsafe_function(sub->tsfn, NULL, napi_tsfn_nonblocking);
}

/* One owner fewer. */
static void
release_owner(subscription_t *sub)
{
	assert(sub->owners > 0);
	if (--sub->owners > 0)
		return;
	assert(sub->events == NULL);
	free(sub);
}

/* The environment ends before the subscription was closed. No JavaScript can run here. */
static void
env_ends(void *arg)
{
	subscription_t *sub = arg;
	zone_events_t *events = sub->events;

	assert(pthread_equal(pthread_self(), sub->env_thread));
	sub->closing = 1;
	sub->events = NULL;
	/* One that libzonecfg does not give back in time is left behind: closed, never freed. */
	if (zone_events_shutdown(events, SHUTDOWN_MS) == 0)
		zone_events_free(events);
	(void) napi_release_threadsafe_function(sub->tsfn, napi_tsfn_abort);
}

/* After the last result: detaches the source; the rest follows. */
static void
finish(subscription_t *sub)
{
	zone_events_free(sub->events);
	sub->events = NULL;
	(void) napi_remove_env_cleanup_hook(sub->env, env_ends, sub);
	(void) napi_release_threadsafe_function(sub->tsfn, napi_tsfn_release);
}

/* The thread-safe function is gone, and with it the callback. */
static void
tsfn_gone(napi_env env, void *data, void *hint)
{
	subscription_t *sub = data;

	(void) hint;
	if (env != NULL && sub->later != NULL)
		(void) napi_delete_reference(env, sub->later);
	sub->later = NULL;
	release_owner(sub);
}

/* The handle was collected. Nobody can close the subscription any more, so it is closed now. */
static void
handle_gone(napi_env env, void *data, void *hint)
{
	subscription_t *sub = data;

	(void) env;
	(void) hint;
	if (!sub->closing) {
		/* Without memory for the command, the end of the environment closes it. */
		(void) subscription_post(sub, ZONE_COMMAND_CLOSE, NULL);
		sub->closing = 1;
	}
	release_owner(sub);
}

static napi_status
emit(napi_env env, napi_value on_item, const zone_item_t *item)
{
	napi_value receiver, argv[6];
	size_t argc = item->kind == ZONE_ITEM_EVENT ? 6 : 1;
	napi_status status;

	if ((status = napi_get_undefined(env, &receiver)) != napi_ok ||
	    (status = napi_create_uint32(env, item->lost, &argv[0])) != napi_ok)
		return (status);
	if (argc > 1 &&
	    ((status = napi_create_string_utf8(env, item->zonename, NAPI_AUTO_LENGTH,
	    &argv[1])) != napi_ok ||
	    (status = napi_create_int32(env, item->zoneid, &argv[2])) != napi_ok ||
	    (status = napi_create_string_utf8(env, item->newstate, NAPI_AUTO_LENGTH,
	    &argv[3])) != napi_ok ||
	    (status = napi_create_string_utf8(env, item->oldstate, NAPI_AUTO_LENGTH,
	    &argv[4])) != napi_ok ||
	    (status = napi_create_bigint_int64(env, item->when, &argv[5])) != napi_ok))
		return (status);
	return (napi_call_function(env, receiver, on_item, argc, argv, NULL));
}

/* Handles made for an item go with it: a burst must not pile them up. */
static napi_status
emit_in_scope(napi_env env, napi_value on_item, const zone_item_t *item)
{
	napi_handle_scope scope;
	napi_status status = napi_open_handle_scope(env, &scope);

	if (status != napi_ok)
		return (status);
	status = emit(env, on_item, item);
	(void) napi_close_handle_scope(env, scope);
	return (status);
}

static void
settle_result(napi_env env, subscription_t *sub, const zone_item_t *item)
{
	if (item->token != NULL)
		napi_promise_settle(env, item->token, item->result);
	if (item->command == ZONE_COMMAND_CLOSE)
		finish(sub);
}

/*
 * What the queue has, a batch at most. It stops after a result, so that whoever awaited it goes on
 * before later events are delivered; and after an exception, which Node takes for an uncaught one. True
 * when a batch was full.
 */
static int
deliver_batch(napi_env env, napi_value on_item, subscription_t *sub)
{
	zone_item_t item;
	int left;

	assert(pthread_equal(pthread_self(), sub->env_thread));
	for (left = ITEMS_PER_ITERATION; left > 0; left--) {
		if (zone_events_next(sub->events, &item) == 0)
			return (0);
		if (item.kind == ZONE_ITEM_RESULT) {
			settle_result(env, sub, &item);
			break;
		}
		if (!sub->closing && emit_in_scope(env, on_item, &item) != napi_ok)
			break;
	}
	if (left > 0 && sub->events != NULL)
		zone_events_rewake(sub->events);
	return (left == 0);
}

/* In a later iteration: asks the queue for another wake-up. */
static napi_value
resume(napi_env env, napi_callback_info info)
{
	void *data;
	subscription_t *sub;

	CALL(env, napi_get_cb_info(env, info, NULL, NULL, NULL, &data));
	sub = data;
	if (sub->events != NULL)
		zone_events_rewake(sub->events);
	release_owner(sub);
	return (NULL);
}

/* A wake-up of our own would be served in this very iteration, since a thread-safe function serves many at once. */
static napi_status
resume_later(napi_env env, subscription_t *sub)
{
	napi_value receiver, later, function;
	napi_status status;

	if ((status = napi_get_undefined(env, &receiver)) != napi_ok ||
	    (status = napi_get_reference_value(env, sub->later, &later)) != napi_ok ||
	    (status = napi_create_function(env, "resume", NAPI_AUTO_LENGTH, resume, sub,
	    &function)) != napi_ok)
		return (status);
	sub->owners++;
	status = napi_call_function(env, receiver, later, 1, &function, NULL);
	if (status != napi_ok)
		release_owner(sub);
	return (status);
}

/* What the queue has, delivered to `on_item`: the thread-safe function's callback. */
static void
on_wake(napi_env env, napi_value on_item, void *context, void *data)
{
	subscription_t *sub = context;

	(void) data;
	if (env == NULL || sub->events == NULL)
		return;
	if (deliver_batch(env, on_item, sub) && resume_later(env, sub) != napi_ok && sub->events != NULL)
		zone_events_rewake(sub->events);
}

/* Makes both owners. On failure an exception is pending, and what was made goes by itself. */
static napi_value
make_owners(napi_env env, napi_value handle, napi_value on_item, napi_value later,
    subscription_t *sub)
{
	napi_value name;

	CALL(env, napi_create_string_utf8(env, "mdatad:zone-events", NAPI_AUTO_LENGTH, &name));
	CALL(env, napi_wrap(env, handle, sub, handle_gone, NULL, NULL));
	sub->owners++;
	CALL(env, napi_create_threadsafe_function(env, on_item, NULL, name, 0, 1, sub, tsfn_gone, sub,
	    on_wake, &sub->tsfn));
	sub->owners++;
	CALL(env, napi_create_reference(env, later, 1, &sub->later));
	return (handle);
}

napi_value
subscription_open(napi_env env, napi_value handle, napi_value on_item, napi_value later,
    uint32_t max_events)
{
	subscription_t *sub = calloc(1, sizeof (*sub));
	int owned, err;

	if (sub == NULL) {
		(void) napi_throw_error(env, "ENOMEM", "bind");
		return (NULL);
	}
	sub->env = env;
	sub->env_thread = pthread_self();
	owned = make_owners(env, handle, on_item, later, sub) != NULL;
	err = owned ? zone_events_open(wake, sub, max_events, &sub->events) : -EINVAL;
	if (err == 0) {
		/* After the thread-safe function's own hook was added, so it runs before that one. */
		if (napi_add_env_cleanup_hook(env, env_ends, sub) == napi_ok)
			return (handle);
		env_ends(sub);
		err = -ENOMEM;
	} else if (sub->tsfn != NULL) {
		(void) napi_release_threadsafe_function(sub->tsfn, napi_tsfn_abort);
	} else if (sub->owners == 0) {
		free(sub);
	}
	if (owned)
		(void) napi_throw(env, napi_promise_error(env, err));
	return (NULL);
}

int
subscription_post(subscription_t *sub, zone_command_t command, napi_deferred deferred)
{
	int err;

	if (sub->events == NULL)
		return (-ESHUTDOWN);
	if ((err = zone_events_post(sub->events, command, deferred)) != 0)
		return (err);
	if (command == ZONE_COMMAND_CLOSE)
		sub->closing = 1;
	return (0);
}
