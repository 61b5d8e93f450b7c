/*
 * The glue between sockets.c and JavaScript: `openSockets` and what can be done with what it returns.
 *
 * One thing lives from openSockets to the end of its environment: the shared memory and the callback
 * stay that long, and the end waits until libuv has closed all handles.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "addon.h"
#include "napi_call.h"
#include "socket_connection.h"
#include "socket_listener.h"
#include "sockets.h"

/* events, inbox, commands, outbox, buffered */
#define	SHARED_ARRAYS	5

/* c5a1f3d8-06be-4e92-9b47-e8d2740f16ab */
static const napi_type_tag SOCKETS_TAG = { 0xc5a1f3d806be4e92ULL, 0x9b47e8d2740f16abULL };

typedef struct reader {
	napi_env env;
	napi_async_context context;
	napi_ref deliver;
	napi_ref arrays[SHARED_ARRAYS];
	napi_async_cleanup_hook_handle hook;
	sockets_t *sockets;
} reader_t;

/* An exception of JavaScript has no caller here: it is an uncaught one. */
static void
throw_uncaught(napi_env env)
{
	napi_value error;
	bool pending = false;

	if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
	    napi_get_and_clear_last_exception(env, &error) == napi_ok)
		(void) napi_fatal_exception(env, error);
}

static void
deliver(void *arg, size_t count)
{
	reader_t *reader = arg;
	napi_env env = reader->env;
	napi_handle_scope scope;
	napi_value receiver, function, argument;

	if (napi_open_handle_scope(env, &scope) != napi_ok)
		return;
	if (napi_get_global(env, &receiver) != napi_ok ||
	    napi_get_reference_value(env, reader->deliver, &function) != napi_ok ||
	    napi_create_uint32(env, (uint32_t)count, &argument) != napi_ok ||
	    napi_make_callback(env, reader->context, receiver, function, 1, &argument, NULL) !=
	    napi_ok)
		throw_uncaught(env);
	(void) napi_close_handle_scope(env, scope);
}

static void
reader_free(reader_t *reader)
{
	size_t i;

	if (reader->deliver != NULL)
		(void) napi_delete_reference(reader->env, reader->deliver);
	for (i = 0; i < SHARED_ARRAYS; i++) {
		if (reader->arrays[i] != NULL)
			(void) napi_delete_reference(reader->env, reader->arrays[i]);
	}
	if (reader->context != NULL)
		(void) napi_async_destroy(reader->env, reader->context);
	free(reader);
}

static void
all_closed(void *arg)
{
	reader_t *reader = arg;
	napi_async_cleanup_hook_handle hook = reader->hook;

	reader_free(reader);
	(void) napi_remove_async_cleanup_hook(hook);
}

static void
env_ends(napi_async_cleanup_hook_handle hook, void *arg)
{
	reader_t *reader = arg;

	reader->hook = hook;
	sockets_shutdown(reader->sockets, all_closed, reader);
}

/* A reference to an array, and where its memory is. */
static bool
ref_array(napi_env env, napi_value array, napi_ref *ref, napi_typedarray_type wanted, void **data,
    size_t *length)
{
	napi_typedarray_type type;
	bool is_array = false;

	return (napi_is_typedarray(env, array, &is_array) == napi_ok && is_array &&
	    napi_get_typedarray_info(env, array, &type, length, data, NULL, NULL) == napi_ok &&
	    type == wanted && napi_create_reference(env, array, 1, ref) == napi_ok);
}

static bool
ref_all(napi_env env, napi_value *argv, reader_t *reader, sockets_shared_t *shared)
{
	static const napi_typedarray_type TYPES[SHARED_ARRAYS] = {
		napi_int32_array, napi_uint8_array, napi_int32_array, napi_uint8_array,
		napi_uint32_array
	};
	void *data[SHARED_ARRAYS];
	size_t length[SHARED_ARRAYS], i;
	napi_value name;

	for (i = 0; i < SHARED_ARRAYS; i++) {
		if (!ref_array(env, argv[1 + i], &reader->arrays[i], TYPES[i], &data[i], &length[i]))
			return (false);
	}
	shared->events = data[0];
	shared->max_events = length[0] / SOCKET_INTS;
	shared->inbox = data[1];
	shared->inbox_bytes = length[1];
	shared->commands = data[2];
	shared->max_commands = length[2] / SOCKET_INTS;
	shared->outbox = data[3];
	shared->outbox_bytes = length[3];
	shared->buffered = data[4];
	shared->max_ids = length[4];
	return (napi_create_reference(env, argv[0], 1, &reader->deliver) == napi_ok &&
	    napi_create_string_utf8(env, "mdatad:sockets", NAPI_AUTO_LENGTH, &name) == napi_ok &&
	    napi_async_init(env, NULL, name, &reader->context) == napi_ok);
}

static napi_value
js_open(napi_env env, napi_callback_info info)
{
	size_t argc = 1 + SHARED_ARRAYS;
	napi_value argv[1 + SHARED_ARRAYS], handle;
	napi_valuetype type;
	sockets_shared_t shared;
	uv_loop_t *loop;
	reader_t *reader;
	int err;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, napi_typeof(env, argv[0], &type));
	CALL(env, napi_get_uv_event_loop(env, &loop));
	if ((reader = calloc(1, sizeof (*reader))) == NULL) {
		(void) napi_throw_error(env, "ENOMEM", "openSockets");
		return (NULL);
	}
	reader->env = env;
	if (argc != 1 + SHARED_ARRAYS || type != napi_function ||
	    !ref_all(env, argv, reader, &shared)) {
		reader_free(reader);
		(void) napi_throw_type_error(env, "EINVAL",
		    "openSockets(deliver, events, inbox, commands, outbox, buffered)");
		return (NULL);
	}
	if ((err = sockets_open(loop, &shared, deliver, reader, &reader->sockets)) != 0) {
		reader_free(reader);
		(void) napi_throw_error(env, err == -EINVAL ? "EINVAL" : "ENOMEM", "openSockets");
		return (NULL);
	}
	if (napi_add_async_cleanup_hook(env, env_ends, reader, &reader->hook) != napi_ok ||
	    napi_call_external(env, reader, &SOCKETS_TAG, &handle) != napi_ok) {
		/* An environment that makes no values is about to end, and closes what there is. */
		(void) napi_throw_error(env, "ENOMEM", "openSockets");
		return (NULL);
	}
	return (handle);
}

/* The arguments of a call, the sockets of its first one; NULL with an exception pending. */
static sockets_t *
arguments(napi_env env, napi_callback_info info, size_t argc, napi_value *argv)
{
	size_t given = argc;
	void *reader;

	CALL(env, napi_get_cb_info(env, info, &given, argv, NULL, NULL));
	if (given < argc) {
		(void) napi_throw_type_error(env, "EINVAL", "too few arguments");
		return (NULL);
	}
	reader = napi_call_external_data(env, argv[0], &SOCKETS_TAG, "not a handle of openSockets");
	return (reader == NULL ? NULL : ((reader_t *)reader)->sockets);
}

static napi_value
js_listen(napi_env env, napi_callback_info info)
{
	/* Longer than any address: what is cut here is refused as too long. */
	char path[512];
	napi_value argv[3], result;
	int32_t backlog;
	sockets_t *sockets = arguments(env, info, 3, argv);

	if (sockets == NULL)
		return (NULL);
	CALL(env, napi_get_value_string_utf8(env, argv[1], path, sizeof (path), NULL));
	CALL(env, napi_get_value_int32(env, argv[2], &backlog));
	CALL(env, napi_create_int32(env, socket_listen(sockets, path, backlog), &result));
	return (result);
}

static napi_value
js_execute(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	uint32_t count;
	sockets_t *sockets = arguments(env, info, 2, argv);

	if (sockets == NULL)
		return (NULL);
	CALL(env, napi_get_value_uint32(env, argv[1], &count));
	sockets_execute(sockets, count);
	return (NULL);
}

static napi_value
js_reserve(napi_env env, napi_callback_info info)
{
	napi_value argv[3], result;
	int32_t id;
	uint32_t length;
	sockets_t *sockets = arguments(env, info, 3, argv);

	if (sockets == NULL)
		return (NULL);
	CALL(env, napi_get_value_int32(env, argv[1], &id));
	CALL(env, napi_get_value_uint32(env, argv[2], &length));
	CALL(env, napi_create_int32(env, connection_reserve(sockets, id, length), &result));
	return (result);
}

static napi_value
js_fill(napi_env env, napi_callback_info info)
{
	napi_value argv[4];
	int32_t id;
	uint32_t at;
	void *data;
	size_t length;
	sockets_t *sockets = arguments(env, info, 4, argv);

	if (sockets == NULL)
		return (NULL);
	CALL(env, napi_get_value_int32(env, argv[1], &id));
	CALL(env, napi_get_value_uint32(env, argv[2], &at));
	CALL(env, napi_get_buffer_info(env, argv[3], &data, &length));
	connection_fill(sockets, id, at, data, length);
	return (NULL);
}

static napi_value
js_commit(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	int32_t id;
	uint32_t length;
	sockets_t *sockets = arguments(env, info, 3, argv);

	if (sockets == NULL)
		return (NULL);
	CALL(env, napi_get_value_int32(env, argv[1], &id));
	CALL(env, napi_get_value_uint32(env, argv[2], &length));
	connection_commit(sockets, id, length);
	return (NULL);
}

static napi_value
js_undelivered(napi_env env, napi_callback_info info)
{
	napi_value argv[2], result;
	int32_t id;
	sockets_t *sockets = arguments(env, info, 2, argv);

	if (sockets == NULL)
		return (NULL);
	CALL(env, napi_get_value_int32(env, argv[1], &id));
	CALL(env, napi_create_double(env, (double)connection_undelivered(sockets, id), &result));
	return (result);
}

static napi_value
js_gone(napi_env env, napi_callback_info info)
{
	napi_value argv[2], result;
	int32_t id;
	sockets_t *sockets = arguments(env, info, 2, argv);

	if (sockets == NULL)
		return (NULL);
	CALL(env, napi_get_value_int32(env, argv[1], &id));
	CALL(env, napi_get_boolean(env, connection_gone(sockets, id) != 0, &result));
	return (result);
}

napi_value
sockets_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "openSockets", js_open },
		{ "listen", js_listen },
		{ "execute", js_execute },
		{ "reserve", js_reserve },
		{ "fill", js_fill },
		{ "commit", js_commit },
		{ "undelivered", js_undelivered },
		{ "gone", js_gone },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
