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
