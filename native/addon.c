/*
 * The addon, for JavaScript: zone state changes here, and what the other *_addon.c add to it. Glue only;
 * what it does is in zone_events.c.
 *
 *   bind(onItem, maxEvents, later) -> handle
 *           onItem(lost, zonename, zoneid, newstate, oldstate, when); later(f) calls f in a later turn
 *   enter(handle), exit(handle), abort(handle), close(handle) -> Promise<number>
 *
 * `lost` is 0 with an event, else how many were lost and nothing else is told. Promises resolve to 0,
 * or to 1 for an exit that still holds the section; refusals reject with `code`.
 *
 * No function here but `wake` runs on any thread but the environment's own. Nothing is global: a
 * subscription hangs on its environment by a cleanup hook, so that every worker may load this.
 *
 * Its end has one order: the source is detached (nobody calls wake any more), then the loop is
 * released, then the callback, then the memory goes when its owners let go of it: the handle, by
 * garbage collection, the thread-safe function, and a slice of a burst that waits for its turn.
 */
#ifdef __sun
#ifndef __EXTENSIONS__
#define	__EXTENSIONS__
#endif
#ifndef _POSIX_PTHREAD_SEMANTICS
#define	_POSIX_PTHREAD_SEMANTICS
#endif
#endif

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "calls_addon.h"
#include "files_addon.h"
#include "loop_delay_addon.h"
#include "napi_call.h"
#include "sockets_addon.h"
#include "zone_events.h"
#include "zone_facts_addon.h"

/* Items that one turn of the loop takes: a burst of events must not keep a guest waiting. */
#define	ITEMS_PER_TURN	256

/*
 * How long the end of a process or worker waits for libzonecfg. Leaving the section waits for an
 * event to come round, which a stuck subscriber elsewhere on the node can hold up for ever.
 */
#define	SHUTDOWN_MS	2000

/* 24ffb9b4-5e44-4a84-a7a5-3b8a8c6f5b01: no other addon's handle is taken for ours. */
static const napi_type_tag HANDLE_TAG = { 0x24ffb9b45e444a84ULL, 0xa7a53b8a8c6f5b01ULL };

typedef struct subscription {
	napi_env env;
	pthread_t env_thread;
	napi_threadsafe_function tsfn;
	/* NULL when the source is detached. */
	zone_events_t *events;
	/* JavaScript's way to have something called in a later turn of the loop. */
	napi_ref later;
	/* Set by close: what is still queued is dropped. */
	int closing;
	int owners;
} subscription_t;

static const char *
code_of(int err)
{
	switch (err) {
	case -EAGAIN:
		return ("EAGAIN");
	case -EALREADY:
		return ("EALREADY");
	case -EINVAL:
		return ("EINVAL");
	case -EIO:
		return ("EIO");
	case -ENOMEM:
		return ("ENOMEM");
	case -ESHUTDOWN:
		return ("ESHUTDOWN");
	default:
		return ("UNKNOWN");
	}
}

/* NULL only when the engine makes no values any more. */
static napi_value
make_error(napi_env env, int err)
{
	napi_value code, message, error;

	if (napi_create_string_utf8(env, code_of(err), NAPI_AUTO_LENGTH, &code) != napi_ok ||
	    napi_create_string_utf8(env, strerror(-err), NAPI_AUTO_LENGTH, &message) != napi_ok ||
	    napi_create_error(env, code, message, &error) != napi_ok)
		return (NULL);
	return (error);
}

static void
settle(napi_env env, napi_deferred deferred, int result)
{
	napi_value value;

	if (result >= 0) {
		if (napi_create_int32(env, result, &value) == napi_ok)
			(void) napi_resolve_deferred(env, deferred, value);
	} else if ((value = make_error(env, result)) != NULL) {
		(void) napi_reject_deferred(env, deferred, value);
	}
}

static void
let_go(subscription_t *sub)
{
	assert(sub->owners > 0);
	if (--sub->owners > 0)
		return;
	assert(sub->events == NULL);
	free(sub);
}

/* On libzonecfg's thread or the section's. The queue holds one wake-up, or two, of no size. */
static void
wake(void *arg)
{
	subscription_t *sub = arg;

	(void) napi_call_threadsafe_function(sub->tsfn, NULL, napi_tsfn_nonblocking);
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
	/* One that libzonecfg does not give back in time is left behind: deaf, never freed. */
	if (zone_events_shutdown(events, SHUTDOWN_MS) == 0)
		zone_events_free(events);
	(void) napi_release_threadsafe_function(sub->tsfn, napi_tsfn_abort);
}

/* The last result came: the source is detached, the rest follows. */
static void
finish(napi_env env, subscription_t *sub)
{
	zone_events_free(sub->events);
	sub->events = NULL;
	(void) napi_remove_env_cleanup_hook(env, env_ends, sub);
	(void) napi_release_threadsafe_function(sub->tsfn, napi_tsfn_release);
}

static void
take_result(napi_env env, subscription_t *sub, const zone_item_t *item)
{
	if (item->token != NULL)
		settle(env, item->token, item->result);
	if (item->command == ZONE_COMMAND_CLOSE)
		finish(env, sub);
}

static napi_status
tell(napi_env env, napi_value on_item, const zone_item_t *item)
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
tell_in_scope(napi_env env, napi_value on_item, const zone_item_t *item)
{
	napi_handle_scope scope;
	napi_status status = napi_open_handle_scope(env, &scope);

	if (status != napi_ok)
		return (status);
	status = tell(env, on_item, item);
	(void) napi_close_handle_scope(env, scope);
	return (status);
}

/*
 * What the queue has, a slice at most. It stops after a result, so that whoever awaited it goes on
 * before later events are told; and after an exception, which Node takes for an uncaught one. True
 * when a slice was full.
 */
static int
take_slice(napi_env env, napi_value on_item, subscription_t *sub)
{
	zone_item_t item;
	int left;

	assert(pthread_equal(pthread_self(), sub->env_thread));
	for (left = ITEMS_PER_TURN; left > 0; left--) {
		if (zone_events_next(sub->events, &item) == 0)
			return (0);
		if (item.kind == ZONE_ITEM_RESULT) {
			take_result(env, sub, &item);
			break;
		}
		if (!sub->closing && tell_in_scope(env, on_item, &item) != napi_ok)
			break;
	}
	if (left > 0 && sub->events != NULL)
		zone_events_rewake(sub->events);
	return (left == 0);
}

/* In a later turn: the queue is asked for another wake-up. */
static napi_value
go_on(napi_env env, napi_callback_info info)
{
	void *data;
	subscription_t *sub;

	CALL(env, napi_get_cb_info(env, info, NULL, NULL, NULL, &data));
	sub = data;
	if (sub->events != NULL)
		zone_events_rewake(sub->events);
	let_go(sub);
	return (NULL);
}

/* A wake-up of our own would be served in this very turn, as thread-safe functions serve many. */
static napi_status
go_on_later(napi_env env, subscription_t *sub)
{
	napi_value receiver, later, function;
	napi_status status;

	if ((status = napi_get_undefined(env, &receiver)) != napi_ok ||
	    (status = napi_get_reference_value(env, sub->later, &later)) != napi_ok ||
	    (status = napi_create_function(env, "goOn", NAPI_AUTO_LENGTH, go_on, sub,
	    &function)) != napi_ok)
		return (status);
	sub->owners++;
	status = napi_call_function(env, receiver, later, 1, &function, NULL);
	if (status != napi_ok)
		let_go(sub);
	return (status);
}

/* On the loop, after a wake-up. */
static void
take_items(napi_env env, napi_value on_item, void *context, void *data)
{
	subscription_t *sub = context;

	(void) data;
	if (env == NULL || sub->events == NULL)
		return;
	if (take_slice(env, on_item, sub) && go_on_later(env, sub) != napi_ok && sub->events != NULL)
		zone_events_rewake(sub->events);
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
	let_go(sub);
}

/* The handle was collected. Nobody can close the subscription any more, so it is closed now. */
static void
handle_gone(napi_env env, void *data, void *hint)
{
	subscription_t *sub = data;

	(void) env;
	(void) hint;
	if (sub->events != NULL && !sub->closing) {
		sub->closing = 1;
		/* Without memory for the command, the end of the environment closes it. */
		(void) zone_events_post(sub->events, ZONE_COMMAND_CLOSE, NULL);
	}
	let_go(sub);
}

/* Makes both owners. On failure an exception is pending, and what was made goes by itself. */
static napi_value
make_handle(napi_env env, napi_value on_item, napi_value later, subscription_t *sub)
{
	napi_value handle, name;

	CALL(env, napi_create_object(env, &handle));
	CALL(env, napi_type_tag_object(env, handle, &HANDLE_TAG));
	CALL(env, napi_create_string_utf8(env, "mdatad:zone-events", NAPI_AUTO_LENGTH, &name));
	CALL(env, napi_wrap(env, handle, sub, handle_gone, NULL, NULL));
	sub->owners++;
	CALL(env, napi_create_threadsafe_function(env, on_item, NULL, name, 0, 1, sub, tsfn_gone, sub,
	    take_items, &sub->tsfn));
	sub->owners++;
	CALL(env, napi_create_reference(env, later, 1, &sub->later));
	return (handle);
}

static napi_value
js_bind(napi_env env, napi_callback_info info)
{
	size_t argc = 3;
	napi_value argv[3], handle;
	napi_valuetype type, later_type;
	uint32_t max_events;
	subscription_t *sub;
	int err;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, napi_typeof(env, argv[0], &type));
	CALL(env, napi_typeof(env, argv[2], &later_type));
	if (argc != 3 || type != napi_function || later_type != napi_function) {
		(void) napi_throw_type_error(env, "EINVAL", "bind(onItem, maxEvents, later)");
		return (NULL);
	}
	CALL(env, napi_get_value_uint32(env, argv[1], &max_events));
	sub = calloc(1, sizeof (*sub));
	if (sub == NULL) {
		(void) napi_throw_error(env, "ENOMEM", "bind");
		return (NULL);
	}
	sub->env = env;
	sub->env_thread = pthread_self();
	handle = make_handle(env, argv[0], argv[2], sub);
	err = handle == NULL ? -EINVAL :
	    zone_events_open(wake, sub, max_events, &sub->events);
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
	if (handle != NULL)
		(void) napi_throw(env, make_error(env, err));
	return (NULL);
}

/* The subscription of a handle; NULL with an exception pending. */
static subscription_t *
unwrap(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value handle;
	napi_valuetype type;
	bool ours = false;
	void *sub;

	CALL(env, napi_get_cb_info(env, info, &argc, &handle, NULL, NULL));
	CALL(env, napi_typeof(env, handle, &type));
	if (type == napi_object)
		CALL(env, napi_check_object_type_tag(env, handle, &HANDLE_TAG, &ours));
	if (!ours) {
		(void) napi_throw_type_error(env, "EINVAL", "not a handle of bind");
		return (NULL);
	}
	CALL(env, napi_unwrap(env, handle, &sub));
	return (sub);
}

static napi_value
post(napi_env env, napi_callback_info info, zone_command_t command)
{
	subscription_t *sub = unwrap(env, info);
	napi_deferred deferred;
	napi_value promise;
	int err;

	if (sub == NULL)
		return (NULL);
	CALL(env, napi_create_promise(env, &deferred, &promise));
	err = sub->events == NULL ? -ESHUTDOWN : zone_events_post(sub->events, command, deferred);
	if (err != 0) {
		settle(env, deferred, err);
		return (promise);
	}
	if (command == ZONE_COMMAND_CLOSE)
		sub->closing = 1;
	return (promise);
}

static napi_value
js_enter(napi_env env, napi_callback_info info)
{
	return (post(env, info, ZONE_COMMAND_ENTER));
}

static napi_value
js_exit(napi_env env, napi_callback_info info)
{
	return (post(env, info, ZONE_COMMAND_EXIT));
}

static napi_value
js_abort(napi_env env, napi_callback_info info)
{
	return (post(env, info, ZONE_COMMAND_ABORT));
}

static napi_value
js_close(napi_env env, napi_callback_info info)
{
	return (post(env, info, ZONE_COMMAND_CLOSE));
}

NAPI_MODULE_INIT()
{
	static const struct {
		const char *name;
		napi_callback function;
	} FUNCTIONS[] = {
		{ "bind", js_bind },
		{ "enter", js_enter },
		{ "exit", js_exit },
		{ "abort", js_abort },
		{ "close", js_close },
	};
	napi_value function;
	size_t i;

	for (i = 0; i < sizeof (FUNCTIONS) / sizeof (FUNCTIONS[0]); i++) {
		CALL(env, napi_create_function(env, FUNCTIONS[i].name, NAPI_AUTO_LENGTH,
		    FUNCTIONS[i].function, NULL, &function));
		CALL(env, napi_set_named_property(env, exports, FUNCTIONS[i].name, function));
	}
	if (calls_exports(env, exports) == NULL || files_exports(env, exports) == NULL ||
	    loop_delay_exports(env, exports) == NULL || zone_facts_exports(env, exports) == NULL)
		return (NULL);
	return (sockets_exports(env, exports));
}
