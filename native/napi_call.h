/*
 * How the glue calls Node-API: a call that fails throws and ends the function that made it, at once.
 */
#ifndef NAPI_CALL_H
#define	NAPI_CALL_H

#include <node_api.h>

/* Throws what the last failed call says, unless an exception of JavaScript is on its way already. */
void napi_call_throw(napi_env env, const char *what);

/* The memory of an array of that type and length; NULL with an exception pending, which says `usage`. */
void *napi_call_array(napi_env env, napi_value value, napi_typedarray_type wanted,
    size_t wanted_length, const char *usage);

/* A handle for JavaScript that carries the tag: nothing but what made it takes it for its own. */
napi_status napi_call_external(napi_env env, void *data, const napi_type_tag *tag,
    napi_value *handle);

/* What a handle was made of; NULL with an exception pending, which says `usage`, for any other value. */
void *napi_call_external_data(napi_env env, napi_value handle, const napi_type_tag *tag,
    const char *usage);

/* Longer than any path that the kernel takes: what is cut here is refused by it as too long. */
#define	NAPI_CALL_PATH_BYTES	4097

typedef struct napi_call_function {
	const char *name;
	napi_callback call;
} napi_call_function_t;

/* `exports` with the functions added; NULL with an exception pending. */
napi_value napi_call_exports(napi_env env, napi_value exports, const napi_call_function_t *functions,
    size_t count);

/* A path as C has it: `path` has NAPI_CALL_PATH_BYTES. */
napi_status napi_call_path(napi_env env, napi_value value, char *path);

/* An array of them and its length, as napi_call_exports takes them. */
#define	NAPI_CALL_ALL(functions)	(functions), sizeof (functions) / sizeof ((functions)[0])

/* In functions that JavaScript calls: they return a napi_value, NULL with an exception pending. */
#define	CALL(env, call)					\
	do {						\
		if ((call) != napi_ok) {		\
			napi_call_throw((env), #call);	\
			return (NULL);			\
		}					\
	} while (0)

#endif
