/*
 * What zone_events queued, told to JavaScript: subscription_take of subscription.h.
 *
 * A turn of the loop takes a slice of a burst and no more: a burst of events must not keep a guest
 * waiting. The rest waits for a later turn, as one more owner of the subscription.
 */
#ifdef __sun
/* Under -std=c11 the system's headers would hide POSIX. */
#ifndef __EXTENSIONS__
#define	__EXTENSIONS__
#endif
#ifndef _POSIX_PTHREAD_SEMANTICS
#define	_POSIX_PTHREAD_SEMANTICS
#endif
#endif

#include <assert.h>

#include "napi_call.h"
#include "napi_promise.h"
#include "subscription.h"

/* Items that one turn of the loop takes. */
#define	ITEMS_PER_TURN	256

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

static void
take_result(napi_env env, subscription_t *sub, const zone_item_t *item)
{
	if (item->token != NULL)
		napi_promise_settle(env, item->token, item->result);
	if (item->command == ZONE_COMMAND_CLOSE)
		subscription_finish(sub);
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
	subscription_let_go(sub);
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
		subscription_let_go(sub);
	return (status);
}

void
subscription_take(napi_env env, napi_value on_item, void *context, void *data)
{
	subscription_t *sub = context;

	(void) data;
	if (env == NULL || sub->events == NULL)
		return;
	if (take_slice(env, on_item, sub) && go_on_later(env, sub) != napi_ok && sub->events != NULL)
		zone_events_rewake(sub->events);
}
