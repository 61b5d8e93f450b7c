/*
 * A call of JavaScript that is done on a thread of libuv's pool, and its promise: what the glue of files and
 * of metadata have in common. A job starts with a pool_job_t and is freed in any case, once it is queued.
 */
#ifndef POOL_JOB_H
#define	POOL_JOB_H

#include "napi_call.h"

/* Buffers and arrays that a job keeps alive. */
#define	POOL_JOB_REFS	6

typedef struct pool_job {
	napi_async_work work;
	napi_deferred deferred;
	napi_ref refs[POOL_JOB_REFS];
	size_t ref_count;
	/* Run on the main thread, which must not wait for threads of the pool: set by pool_job_do. */
	int at_once;
	/* On a thread of the pool, or at once. */
	void (*run)(struct pool_job *);
	/* On the main thread, after it: what the promise resolves to; NULL where no value can be made. */
	napi_value (*result)(napi_env, struct pool_job *);
	/* Frees what the job has; NULL where there is nothing. */
	void (*fini)(struct pool_job *);
	char path[NAPI_CALL_PATH_BYTES];
	char temp[NAPI_CALL_PATH_BYTES];
	char directory[NAPI_CALL_PATH_BYTES];
} pool_job_t;

/* A job of `bytes`, zeroed but for these; NULL with an exception pending. */
void *pool_job_make(napi_env env, size_t bytes, void (*run)(pool_job_t *),
    napi_value (*result)(napi_env, pool_job_t *), void (*fini)(pool_job_t *));

/* Keeps the memory of a value until the job is done. */
napi_status pool_job_keep(napi_env env, pool_job_t *job, napi_value value);

/* The promise, or NULL with an exception pending. It never rejects. */
napi_value pool_job_queue(napi_env env, pool_job_t *job);

/* Does it at once, on this thread: the result itself, or NULL with an exception pending. */
napi_value pool_job_do(napi_env env, pool_job_t *job);

/* Frees a job whose arguments are wrong; NULL with an exception that says `usage`. */
napi_value pool_job_refuse(napi_env env, pool_job_t *job, const char *usage);

#endif
