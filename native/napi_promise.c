/*
 * See napi_promise.h.
 */
#include "napi_promise.h"

#include <errno.h>
#include <string.h>

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

napi_value
napi_promise_error(napi_env env, int err)
{
	napi_value code, message, error;

	if (napi_create_string_utf8(env, code_of(err), NAPI_AUTO_LENGTH, &code) != napi_ok ||
	    napi_create_string_utf8(env, strerror(-err), NAPI_AUTO_LENGTH, &message) != napi_ok ||
	    napi_create_error(env, code, message, &error) != napi_ok)
		return (NULL);
	return (error);
}

void
napi_promise_settle(napi_env env, napi_deferred deferred, int result)
{
	napi_value value;

	if (result >= 0) {
		if (napi_create_int32(env, result, &value) == napi_ok)
			(void) napi_resolve_deferred(env, deferred, value);
	} else if ((value = napi_promise_error(env, result)) != NULL) {
		(void) napi_reject_deferred(env, deferred, value);
	}
}
