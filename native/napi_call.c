/*
 * See napi_call.h.
 */
#include <stdbool.h>

#include "napi_call.h"

void
napi_call_throw(napi_env env, const char *what)
{
	const napi_extended_error_info *info = NULL;
	const char *message = NULL;
	bool pending = false;

	if (napi_get_last_error_info(env, &info) == napi_ok && info != NULL)
		message = info->error_message;
	if (napi_is_exception_pending(env, &pending) == napi_ok && !pending)
		(void) napi_throw_error(env, "ERR_NAPI", message == NULL ? what : message);
}

void *
napi_call_array(napi_env env, napi_value value, napi_typedarray_type wanted, size_t wanted_length,
    const char *usage)
{
	napi_typedarray_type type;
	size_t length;
	void *data;

	if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok ||
	    type != wanted || length != wanted_length) {
		(void) napi_throw_type_error(env, "EINVAL", usage);
		return (NULL);
	}
	return (data);
}

napi_status
napi_call_external(napi_env env, void *data, const napi_type_tag *tag, napi_value *handle)
{
	napi_status status = napi_create_external(env, data, NULL, NULL, handle);

	return (status != napi_ok ? status : napi_type_tag_object(env, *handle, tag));
}

void *
napi_call_external_data(napi_env env, napi_value handle, const napi_type_tag *tag,
    const char *usage)
{
	napi_valuetype type;
	bool ours = false;
	void *data;

	/* A proxy has no tags, and the question itself fails for what is no object. */
	if (napi_typeof(env, handle, &type) == napi_ok && type == napi_external &&
	    napi_check_object_type_tag(env, handle, tag, &ours) == napi_ok && ours &&
	    napi_get_value_external(env, handle, &data) == napi_ok)
		return (data);
	(void) napi_throw_type_error(env, "EINVAL", usage);
	return (NULL);
}

napi_value
napi_call_exports(napi_env env, napi_value exports, const napi_call_function_t *functions,
    size_t count)
{
	napi_value function;
	size_t i;

	for (i = 0; i < count; i++) {
		CALL(env, napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH,
		    functions[i].call, NULL, &function));
		CALL(env, napi_set_named_property(env, exports, functions[i].name, function));
	}
	return (exports);
}

napi_status
napi_call_path(napi_env env, napi_value value, char *path)
{
	return (napi_get_value_string_utf8(env, value, path, NAPI_CALL_PATH_BYTES, NULL));
}
