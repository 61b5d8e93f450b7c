/*
 * The glue of zone_events: zone state changes, for JavaScript.
 *
 *   bind(onItem, maxEvents, later) -> handle
 *           onItem(lost, zonename, zoneid, newstate, oldstate, when); later(f) calls f in a later iteration
 *   enter(handle), exit(handle), abort(handle), close(handle) -> Promise<number>
 *
 * `lost` is 0 with an event, else how many were lost and nothing else is given. Promises resolve to 0,
 * or to 1 for an exit that still holds the section; refusals reject with `code`.
 *
 * All of it runs on the environment's thread.
 */
#include "addon.h"

#include <errno.h>

#include "napi_call.h"
#include "napi_promise.h"
#include "subscription.h"

/* 24ffb9b4-5e44-4a84-a7a5-3b8a8c6f5b01: no handle of another addon passes for ours. */
static const napi_type_tag HANDLE_TAG = { 0x24ffb9b45e444a84ULL, 0xa7a53b8a8c6f5b01ULL };

static napi_value
js_bind(napi_env env, napi_callback_info info)
{
	size_t argc = 3;
	napi_value argv[3], handle;
	napi_valuetype type, later_type;
	uint32_t max_events;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, napi_typeof(env, argv[0], &type));
	CALL(env, napi_typeof(env, argv[2], &later_type));
	if (argc != 3 || type != napi_function || later_type != napi_function) {
		(void) napi_throw_type_error(env, "EINVAL", "bind(onItem, maxEvents, later)");
		return (NULL);
	}
	CALL(env, napi_get_value_uint32(env, argv[1], &max_events));
	CALL(env, napi_create_object(env, &handle));
	CALL(env, napi_type_tag_object(env, handle, &HANDLE_TAG));
	return (subscription_open(env, handle, argv[0], argv[2], max_events));
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
	if ((err = subscription_post(sub, command, deferred)) != 0)
		napi_promise_settle(env, deferred, err);
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

napi_value
zone_events_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "bind", js_bind },
		{ "enter", js_enter },
		{ "exit", js_exit },
		{ "abort", js_abort },
		{ "close", js_close },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
