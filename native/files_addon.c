/*
 * The glue of file_replace, one trip to the pool's threads for each, and of file_lock.
 *
 *   replaceFile(path, temp, directory, bytes) -> Promise<number>
 *           the new file is its owner's alone
 *   syncFile(path, directory) -> Promise<number>
 *   freeSpace(path) -> Promise<number>
 *           resolves to bytes, or to the negative errno
 *   lockFile(path) -> number
 *           at once: the descriptor that holds the lock, or the negative errno
 *
 * The promise of the first two resolves to 0, or to what failed: the errno, the step in the next 8 bits from
 * 16 on, and bit 24 where it was the directory's. `bytes` must not change meanwhile.
 */
#include "addon.h"
#include "file_lock.h"
#include "file_replace.h"
#include "pool_job.h"

#define	STEP_SHIFT	16
#define	DIRECTORY_SHIFT	24

typedef struct job {
	/* First: a pool_job_t is a job_t. */
	pool_job_t pool;
	/* What the promise resolves to. */
	double result;
	file_replace_t replace;
	file_fault_t fault;
} job_t;

/* 0, or what failed. */
static double
fault_number(int err, const file_fault_t *fault)
{
	return (err == 0 ? 0 : fault->err | ((int32_t)fault->step << STEP_SHIFT) |
	    ((int32_t)fault->directory << DIRECTORY_SHIFT));
}

static void
run_replace(pool_job_t *pool)
{
	job_t *job = (job_t *)pool;

	job->result = fault_number(file_replace(&job->replace, &job->fault), &job->fault);
}

static void
run_sync(pool_job_t *pool)
{
	job_t *job = (job_t *)pool;

	job->result = fault_number(file_sync(pool->path, pool->directory, &job->fault), &job->fault);
}

static void
run_free_space(pool_job_t *pool)
{
	uint64_t bytes;
	int err = file_free_space(pool->path, &bytes);

	((job_t *)pool)->result = err != 0 ? (double)err : (double)bytes;
}

static napi_value
number_result(napi_env env, pool_job_t *pool)
{
	napi_value result;

	return (napi_create_double(env, ((job_t *)pool)->result, &result) == napi_ok ? result : NULL);
}

static napi_value
js_replace_file(napi_env env, napi_callback_info info)
{
	napi_value argv[4];
	size_t argc = 4;
	void *bytes;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	if ((job = pool_job_make(env, sizeof (*job), run_replace, number_result, NULL)) == NULL)
		return (NULL);
	if (napi_call_path(env, argv[0], job->pool.path) != napi_ok ||
	    napi_call_path(env, argv[1], job->pool.temp) != napi_ok ||
	    napi_call_path(env, argv[2], job->pool.directory) != napi_ok ||
	    napi_get_buffer_info(env, argv[3], &bytes, &job->replace.length) != napi_ok ||
	    pool_job_keep(env, &job->pool, argv[3]) != napi_ok)
		return (pool_job_refuse(env, &job->pool, "replaceFile(path, temp, directory, bytes)"));
	job->replace.path = job->pool.path;
	job->replace.temp = job->pool.temp;
	job->replace.directory = job->pool.directory;
	job->replace.bytes = bytes;
	job->replace.mode = 0600;
	return (pool_job_queue(env, &job->pool));
}

static napi_value
js_sync_file(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	size_t argc = 2;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	if ((job = pool_job_make(env, sizeof (*job), run_sync, number_result, NULL)) == NULL)
		return (NULL);
	if (napi_call_path(env, argv[0], job->pool.path) != napi_ok ||
	    napi_call_path(env, argv[1], job->pool.directory) != napi_ok)
		return (pool_job_refuse(env, &job->pool, "syncFile(path, directory)"));
	return (pool_job_queue(env, &job->pool));
}

static napi_value
js_free_space(napi_env env, napi_callback_info info)
{
	napi_value arg;
	size_t argc = 1;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	if ((job = pool_job_make(env, sizeof (*job), run_free_space, number_result, NULL)) == NULL)
		return (NULL);
	if (napi_call_path(env, arg, job->pool.path) != napi_ok)
		return (pool_job_refuse(env, &job->pool, "freeSpace(path)"));
	return (pool_job_queue(env, &job->pool));
}

static napi_value
js_lock_file(napi_env env, napi_callback_info info)
{
	char path[NAPI_CALL_PATH_BYTES];
	napi_value arg, result;
	size_t argc = 1;
	int fd, err;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	CALL(env, napi_call_path(env, arg, path));
	err = file_lock(path, &fd);
	CALL(env, napi_create_int32(env, err == 0 ? fd : err, &result));
	return (result);
}

napi_value
files_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "replaceFile", js_replace_file },
		{ "syncFile", js_sync_file },
		{ "freeSpace", js_free_space },
		{ "lockFile", js_lock_file },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
