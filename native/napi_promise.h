/*
 * What a function of C returned, as a promise of JavaScript: a number from 0 on, or a negated errno.
 */
#ifndef NAPI_PROMISE_H
#define	NAPI_PROMISE_H

#include <node_api.h>

/* An Error with `code`; NULL only when the engine makes no values any more. */
napi_value napi_promise_error(napi_env env, int err);

/* Resolves to what is 0 or more; rejects with the error otherwise. */
void napi_promise_settle(napi_env env, napi_deferred deferred, int result);

#endif
