/*
 * The glue of calls that every request or connection makes: at once, and cheaper than by ffi or node:fs. And of the
 * last one of the process, for which nothing else has to be loaded.
 */
#include <unistd.h>

#include "addon.h"
#include "file_stat.h"
#include "napi_call.h"
#include "peer.h"

/* Zone id, process id, user id. */
#define	PEER_MEMBERS	3

static napi_value
js_peer(napi_env env, napi_callback_info info)
{
	size_t argc = 2;
	napi_value argv[2], result;
	int32_t fd, *into;
	peer_t peer;
	int err;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, napi_get_value_int32(env, argv[0], &fd));
	into = napi_call_array(env, argv[1], napi_int32_array, PEER_MEMBERS, "peer(fd, into)");
	if (into == NULL)
		return (NULL);
	err = peer_of(fd, &peer);
	if (err == 0) {
		into[0] = (int32_t)peer.zoneid;
		into[1] = (int32_t)peer.pid;
		into[2] = (int32_t)peer.uid;
	}
	CALL(env, napi_create_int32(env, err, &result));
	return (result);
}

static napi_value
js_zonename(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value arg, result;
	char name[ZONENAME_MAX];
	int32_t zoneid;
	int err;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	CALL(env, napi_get_value_int32(env, arg, &zoneid));
	err = peer_zonename(zoneid, name);
	if (err != 0)
		CALL(env, napi_create_int32(env, err, &result));
	else
		CALL(env, napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &result));
	return (result);
}

static napi_value
js_stat(napi_env env, napi_callback_info info)
{
	char path[NAPI_CALL_PATH_BYTES];
	size_t argc = 2;
	napi_value argv[2], result;
	uint32_t *into;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, napi_get_value_string_utf8(env, argv[0], path, sizeof (path), NULL));
	into = napi_call_array(env, argv[1], napi_uint32_array, FILE_STAT_MEMBERS, "stat(path, into)");
	if (into == NULL)
		return (NULL);
	CALL(env, napi_create_int32(env, file_stat(path, into), &result));
	return (result);
}

static napi_value
js_exit_process(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value arg;
	int32_t code;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	CALL(env, napi_get_value_int32(env, arg, &code));
	_exit(code);
	return (NULL);
}

napi_value
calls_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "peer", js_peer },
		{ "zonename", js_zonename },
		{ "stat", js_stat },
		{ "exitProcess", js_exit_process },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
