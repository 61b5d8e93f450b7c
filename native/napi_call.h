/*
 * How the glue calls Node-API: a call that fails throws and ends the function that made it, at once.
 */
#ifndef NAPI_CALL_H
#define	NAPI_CALL_H

#include <node_api.h>

/* Throws what the last failed call says, unless an exception of JavaScript is on its way already. */
void napi_call_throw(napi_env env, const char *what);

/* In functions that JavaScript calls: they return a napi_value, NULL with an exception pending. */
#define	CALL(env, call)					\
	do {						\
		if ((call) != napi_ok) {		\
			napi_call_throw((env), #call);	\
			return (NULL);			\
		}					\
	} while (0)

#endif
