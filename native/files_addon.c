/*
 * The glue of file_replace: one trip to the pool's threads for each.
 *
 *   replaceFile(path, temp, directory, bytes, uid, gid, mode, look) -> Promise<number>
 *           uid -1: owner as it comes; look, a Uint32Array, is filled as file_look.h says
 *   syncFile(path, directory) -> Promise<number>
 *   freeSpace(path) -> Promise<number>
 *           resolves to bytes, or to the negative errno
 *
 * The promise of the first two resolves to 0, or to what failed: the errno, the step in the next 8 bits from
 * 16 on, and bit 24 where it was the directory's. It never rejects. `bytes` must not change meanwhile.
 */
#include <stdlib.h>
#include <string.h>

#include "file_replace.h"
#include "files_addon.h"
#include "napi_call.h"

#define	STEP_SHIFT	16
#define	FOLDER_SHIFT	24

typedef struct job {
	napi_async_work work;
	napi_deferred deferred;
	/* Keep the memory of `bytes` and `look`; NULL for a job that has none. */
	napi_ref bytes;
	napi_ref look;
	int (*run)(struct job *);
	/* What the promise resolves to, filled by `run` or, where that fails, from `fault`. */
	double told;
	file_replace_t replace;
	file_fault_t fault;
	int failed;
	char path[NAPI_CALL_PATH_BYTES];
	char temp[NAPI_CALL_PATH_BYTES];
	char directory[NAPI_CALL_PATH_BYTES];
} job_t;

static int
run_replace(job_t *job)
{
	return (file_replace(&job->replace, &job->fault));
}

static int
run_sync(job_t *job)
{
	return (file_sync(job->path, job->directory, &job->fault));
}

/* Never fails for `complete`: what it tells has the errno in it. */
static int
run_free_space(job_t *job)
{
	uint64_t bytes;
	int err = file_free_space(job->path, &bytes);

	job->told = err != 0 ? (double)err : (double)bytes;
	return (0);
}

static void
execute(napi_env env, void *data)
{
	job_t *job = data;

	(void) env;
	job->failed = job->run(job) != 0;
}

static void
job_free(napi_env env, job_t *job)
{
	if (job->bytes != NULL)
		(void) napi_delete_reference(env, job->bytes);
	if (job->look != NULL)
		(void) napi_delete_reference(env, job->look);
	if (job->work != NULL)
		(void) napi_delete_async_work(env, job->work);
	free(job);
}

/* Into the array that was given. */
static void
tell_look(napi_env env, job_t *job)
{
	napi_value look;
	void *data;

	if (job->look != NULL && napi_get_reference_value(env, job->look, &look) == napi_ok &&
	    napi_get_typedarray_info(env, look, NULL, NULL, &data, NULL, NULL) == napi_ok)
		(void) memcpy(data, job->replace.look, sizeof (job->replace.look));
}

static void
complete(napi_env env, napi_status status, void *data)
{
	job_t *job = data;
	napi_value result;

	if (job->failed) {
		job->told = job->fault.err | ((int32_t)job->fault.step << STEP_SHIFT) |
		    ((int32_t)job->fault.directory << FOLDER_SHIFT);
	} else {
		tell_look(env, job);
	}
	/* Cancelled: the environment ends, and nobody waits any more. */
	if (status == napi_ok && napi_create_double(env, job->told, &result) == napi_ok)
		(void) napi_resolve_deferred(env, job->deferred, result);
	job_free(env, job);
}

/* Queues the job, which is freed in any case. The promise, or NULL with an exception pending. */
static napi_value
queue(napi_env env, job_t *job)
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

/* NULL with an exception pending. */
static job_t *
job_make(napi_env env, int (*run)(job_t *))
{
	job_t *job = calloc(1, sizeof (*job));

	if (job == NULL)
		(void) napi_throw_error(env, "ENOMEM", "no memory for work on a file");
	else
		job->run = run;
	return (job);
}

/* The memory of `bytes` and `look`, held until the job is done. */
static napi_status
hold(napi_env env, job_t *job, napi_value bytes, napi_value look)
{
	napi_typedarray_type type;
	size_t members;
	void *data;

	if (napi_get_buffer_info(env, bytes, &data, &job->replace.length) != napi_ok ||
	    napi_get_typedarray_info(env, look, &type, &members, NULL, NULL, NULL) != napi_ok ||
	    type != napi_uint32_array || members != FILE_LOOK_MEMBERS)
		return (napi_invalid_arg);
	job->replace.bytes = data;
	if (napi_create_reference(env, bytes, 1, &job->bytes) != napi_ok)
		return (napi_generic_failure);
	return (napi_create_reference(env, look, 1, &job->look));
}

static napi_value
js_replace_file(napi_env env, napi_callback_info info)
{
	napi_value argv[8];
	size_t argc = 8;
	int32_t uid, gid, mode;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, napi_get_value_int32(env, argv[4], &uid));
	CALL(env, napi_get_value_int32(env, argv[5], &gid));
	CALL(env, napi_get_value_int32(env, argv[6], &mode));
	if ((job = job_make(env, run_replace)) == NULL)
		return (NULL);
	if (napi_call_path(env, argv[0], job->path) != napi_ok || napi_call_path(env, argv[1], job->temp) != napi_ok ||
	    napi_call_path(env, argv[2], job->directory) != napi_ok ||
	    hold(env, job, argv[3], argv[7]) != napi_ok) {
		job_free(env, job);
		(void) napi_throw_type_error(env, "EINVAL",
		    "replaceFile(path, temp, directory, bytes, uid, gid, mode, look)");
		return (NULL);
	}
	job->replace.path = job->path;
	job->replace.temp = job->temp;
	job->replace.directory = job->directory;
	job->replace.owned = uid != -1;
	job->replace.uid = (uid_t)uid;
	job->replace.gid = (gid_t)gid;
	job->replace.mode = (mode_t)mode;
	return (queue(env, job));
}

static napi_value
js_sync_file(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	size_t argc = 2;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	if ((job = job_make(env, run_sync)) == NULL)
		return (NULL);
	if (napi_call_path(env, argv[0], job->path) != napi_ok ||
	    napi_call_path(env, argv[1], job->directory) != napi_ok) {
		job_free(env, job);
		(void) napi_throw_type_error(env, "EINVAL", "syncFile(path, directory)");
		return (NULL);
	}
	return (queue(env, job));
}

static napi_value
js_free_space(napi_env env, napi_callback_info info)
{
	napi_value arg;
	size_t argc = 1;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	if ((job = job_make(env, run_free_space)) == NULL)
		return (NULL);
	if (napi_call_path(env, arg, job->path) != napi_ok) {
		job_free(env, job);
		(void) napi_throw_type_error(env, "EINVAL", "freeSpace(path)");
		return (NULL);
	}
	return (queue(env, job));
}

napi_value
files_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "replaceFile", js_replace_file },
		{ "syncFile", js_sync_file },
		{ "freeSpace", js_free_space },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
