/*
 * See pool_job.h.
 */
#include "pool_job.h"

#include <stdlib.h>

void *
pool_job_make(napi_env env, size_t bytes, void (*run)(pool_job_t *),
    napi_value (*result)(napi_env, pool_job_t *), void (*fini)(pool_job_t *))
{
	pool_job_t *job = calloc(1, bytes);

	if (job == NULL) {
		(void) napi_throw_error(env, "ENOMEM", "no memory for work on a file");
		return (NULL);
	}
	job->run = run;
	job->result = result;
	job->fini = fini;
	return (job);
}

napi_status
pool_job_keep(napi_env env, pool_job_t *job, napi_value value)
{
	if (job->ref_count == POOL_JOB_REFS)
		return (napi_generic_failure);
	return (napi_create_reference(env, value, 1, &job->refs[job->ref_count++]));
}

static void
job_free(napi_env env, pool_job_t *job)
{
	size_t i;

	for (i = 0; i < job->ref_count; i++) {
		if (job->refs[i] != NULL)
			(void) napi_delete_reference(env, job->refs[i]);
	}
	if (job->work != NULL)
		(void) napi_delete_async_work(env, job->work);
	if (job->fini != NULL)
		job->fini(job);
	free(job);
}

static void
execute(napi_env env, void *data)
{
	pool_job_t *job = data;

	(void) env;
	job->run(job);
}

static void
complete(napi_env env, napi_status status, void *data)
{
	pool_job_t *job = data;
	napi_value result;

	/* Cancelled: the environment ends, and nobody waits any more. */
	if (status == napi_ok && (result = job->result(env, job)) != NULL)
		(void) napi_resolve_deferred(env, job->deferred, result);
	job_free(env, job);
}

napi_value
pool_job_queue(napi_env env, pool_job_t *job)
{
	napi_value name, promise;

	if (napi_create_string_utf8(env, "mdatad:file", NAPI_AUTO_LENGTH, &name) != napi_ok ||
	    napi_create_async_work(env, NULL, name, execute, complete, job, &job->work) != napi_ok ||
	    napi_create_promise(env, &job->deferred, &promise) != napi_ok ||
	    napi_queue_async_work(env, job->work) != napi_ok) {
		napi_call_throw(env, "the work could not be queued");
		job_free(env, job);
		return (NULL);
	}
	return (promise);
}

napi_value
pool_job_do(napi_env env, pool_job_t *job)
{
	napi_value result;

	job->at_once = 1;
	job->run(job);
	if ((result = job->result(env, job)) == NULL)
		napi_call_throw(env, "the result could not be made");
	job_free(env, job);
	return (result);
}

napi_value
pool_job_refuse(napi_env env, pool_job_t *job, const char *usage)
{
	job_free(env, job);
	(void) napi_throw_type_error(env, "EINVAL", usage);
	return (NULL);
}
