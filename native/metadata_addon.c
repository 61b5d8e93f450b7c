/*
 * metadata_scan and metadata_file for JavaScript: arguments, and work on threads of the pool.
 *
 *   scanMetadata(bytes) -> Text
 *   jsonBytes(utf8) -> number      what the string takes as JSON, quotes included
 *   buildMetadata(old, pieces, literals, members, counts) -> Text     at once, for texts in memory
 *   readMetadata(path, most, keep) -> Promise<Text>
 *   readMetadataNow(path, most, keep) -> Text                         the same at once, for short files
 *   readValue(path, stat, start, end, isString) -> Promise<Text>      only code, err and bytes
 *   readValueNow(path, stat, start, end, isString) -> Text
 *   spliceMetadata(path, temp, directory, old, stat, pieces, literals, members, counts, owner, keep)
 *       -> Promise<Text>      old: the file's text where it is known, else null; stat null where there is no file
 *
 *   scanEvent(line) -> Promise<Text>      ranges as metadata_offsets.h says; the rest is of the text of
 *       `vm`, with offsets from its start
 *
 *   Text { code, err, step, root, members, order, names?, stat, owner, bytes? }
 *       code and step as the headers say; root, members, order Uint32Array and names Buffer as metadata_offsets.h has
 *       them; owner Uint32Array of mode, uid, gid; bytes where they are kept
 *   counts   Uint32Array: of both maps the old members, then those that are written, then all new ones
 *   owner    Int32Array of mode, uid, gid; a uid of -1 leaves the owner as it comes
 *
 * A promise never rejects. What is given must not change meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "addon.h"
#include "json_string.h"
#include "metadata_outcome.h"
#include "pool_job.h"

#define	COUNTS	6
/* In `step`: the directory's, not a file's in it. */
#define	DIRECTORY_BIT	0x100

typedef struct job {
	/* First: a pool_job_t is a job_t. */
	pool_job_t pool;
	union {
		metadata_read_t read;
		metadata_value_t value;
		metadata_splice_t splice;
		struct {
			const uint8_t *bytes;
			size_t length;
		} event;
	} u;
	uint32_t stat[FILE_STAT_MEMBERS];
	metadata_outcome_t outcome;
} job_t;

static void
run_read(pool_job_t *pool)
{
	job_t *job = (job_t *)pool;
	metadata_read_t *read = &job->u.read;
	metadata_outcome_t *outcome = &job->outcome;

	read->at_once = pool->at_once;
	outcome->code = metadata_file_read(read);
	outcome->err = read->err;
	outcome->scan = read->scan;
	outcome->bytes = read->bytes;
	outcome->length = read->length;
	(void) memcpy(outcome->stat, read->stat, sizeof (outcome->stat));
	outcome->owner[0] = read->mode;
	outcome->owner[1] = read->uid;
	outcome->owner[2] = read->gid;
}

static void
run_value(pool_job_t *pool)
{
	job_t *job = (job_t *)pool;
	metadata_value_t *value = &job->u.value;

	value->at_once = pool->at_once;
	job->outcome.code = metadata_file_value(value);
	job->outcome.err = value->err;
	job->outcome.bytes = value->bytes;
	job->outcome.length = value->length;
}

static void
run_splice(pool_job_t *pool)
{
	job_t *job = (job_t *)pool;
	metadata_splice_t *splice = &job->u.splice;
	metadata_outcome_t *outcome = &job->outcome;

	outcome->code = metadata_file_splice(splice);
	outcome->err = splice->fault.err;
	outcome->step = (int)splice->fault.step | (splice->fault.directory ? DIRECTORY_BIT : 0);
	outcome->scan = splice->scan;
	outcome->bytes = splice->bytes;
	outcome->length = splice->length;
	(void) memcpy(outcome->stat, splice->replace.stat, sizeof (outcome->stat));
	outcome->owner[0] = (uint32_t)splice->replace.mode;
	outcome->owner[1] = (uint32_t)splice->replace.uid;
	outcome->owner[2] = (uint32_t)splice->replace.gid;
}

static void
run_event(pool_job_t *pool)
{
	job_t *job = (job_t *)pool;
	const uint8_t *bytes = job->u.event.bytes;
	metadata_outcome_t *outcome = &job->outcome;
	const metadata_range_t *vm = &outcome->ranges[METADATA_EVENT_VM];
	metadata_scan_result_t result = metadata_scan_event(bytes, job->u.event.length, outcome->ranges);

	if (result == METADATA_SCAN_OK && vm->end > vm->start)
		result = metadata_scan(bytes + vm->start, vm->end - vm->start, &outcome->scan);
	outcome->code = metadata_file_result_of(result);
	outcome->err = ENOMEM;
}

static napi_value
job_result(napi_env env, pool_job_t *pool)
{
	return (metadata_outcome_value(env, &((job_t *)pool)->outcome));
}

static void
job_fini(pool_job_t *pool)
{
	metadata_outcome_fini(&((job_t *)pool)->outcome);
}

static napi_status
size_of(napi_env env, napi_value value, size_t *into)
{
	uint32_t number;
	napi_status status = napi_get_value_uint32(env, value, &number);

	*into = number;
	return (status);
}

static napi_status
is_null(napi_env env, napi_value value, int *null)
{
	napi_valuetype type;
	napi_status status = napi_typeof(env, value, &type);

	*null = type == napi_null;
	return (status);
}

/* Keeps the memory of a value until the job is done; nothing for a call that is not queued. */
static napi_status
keep(napi_env env, job_t *job, napi_value value)
{
	return (job == NULL ? napi_ok : pool_job_keep(env, &job->pool, value));
}

static napi_status
bytes_of(napi_env env, job_t *job, napi_value value, const uint8_t **bytes, size_t *length)
{
	void *data;
	napi_status status = napi_get_buffer_info(env, value, &data, length);

	*bytes = data;
	return (status != napi_ok ? status : keep(env, job, value));
}

/* The words of a Uint32Array whose length is a multiple of `unit`. */
static napi_status
words_of(napi_env env, job_t *job, napi_value value, size_t unit, const void **words, size_t *count)
{
	napi_typedarray_type type;
	size_t length;
	void *data;

	if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok ||
	    type != napi_uint32_array || length % unit != 0)
		return (napi_invalid_arg);
	*words = data;
	*count = length / unit;
	return (keep(env, job, value));
}

/* argv: pieces, literals, members, counts. */
static napi_status
text_of(napi_env env, job_t *job, const napi_value *argv, metadata_text_t *text)
{
	const void *words;
	const uint32_t *counts;
	size_t members, count;

	if (words_of(env, job, argv[0], METADATA_PIECE_WORDS, &words, &text->piece_count) != napi_ok)
		return (napi_invalid_arg);
	text->pieces = words;
	if (bytes_of(env, job, argv[1], &text->literals, &text->literals_length) != napi_ok ||
	    words_of(env, job, argv[2], METADATA_MEMBER_WORDS, &words, &members) != napi_ok)
		return (napi_invalid_arg);
	text->members = words;
	if (words_of(env, NULL, argv[3], COUNTS, &words, &count) != napi_ok || count != 1)
		return (napi_invalid_arg);
	counts = words;
	text->counts[0] = counts[0];
	text->counts[1] = counts[1];
	text->written[0] = counts[2];
	text->written[1] = counts[3];
	text->totals[0] = counts[4];
	text->totals[1] = counts[5];
	return (text->counts[0] + text->counts[1] == members ? napi_ok : napi_invalid_arg);
}

static job_t *
job_make(napi_env env, void (*run)(pool_job_t *))
{
	return (pool_job_make(env, sizeof (job_t), run, job_result, job_fini));
}

static napi_value
result_now(napi_env env, metadata_outcome_t *outcome)
{
	napi_value result = metadata_outcome_value(env, outcome);

	metadata_outcome_fini(outcome);
	if (result == NULL)
		napi_call_throw(env, "the result could not be made");
	return (result);
}

static napi_value
js_scan_metadata(napi_env env, napi_callback_info info)
{
	napi_value arg;
	size_t argc = 1, length;
	metadata_outcome_t outcome;
	void *bytes;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	CALL(env, napi_get_buffer_info(env, arg, &bytes, &length));
	(void) memset(&outcome, 0, sizeof (outcome));
	outcome.code = metadata_file_result_of(metadata_scan(bytes, length, &outcome.scan));
	outcome.err = outcome.code == METADATA_FILE_FAILED ? ENOMEM : 0;
	return (result_now(env, &outcome));
}

static napi_value
js_json_bytes(napi_env env, napi_callback_info info)
{
	napi_value arg, result;
	size_t argc = 1, length;
	void *utf8;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	CALL(env, napi_get_buffer_info(env, arg, &utf8, &length));
	CALL(env, napi_create_double(env, (double)json_string_length(utf8, length), &result));
	return (result);
}

static napi_value
js_build_metadata(napi_env env, napi_callback_info info)
{
	napi_value argv[5];
	size_t argc = 5;
	metadata_text_t text;
	metadata_outcome_t outcome;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	(void) memset(&text, 0, sizeof (text));
	(void) memset(&outcome, 0, sizeof (outcome));
	CALL(env, bytes_of(env, NULL, argv[0], &text.old, &text.old_length));
	CALL(env, text_of(env, NULL, argv + 1, &text));
	outcome.code = metadata_text_build(&text, &outcome.bytes, &outcome.length, &outcome.scan);
	outcome.err = outcome.code == METADATA_FILE_FAILED ? ENOMEM : 0;
	return (result_now(env, &outcome));
}

/* What is done with a job whose arguments are right. */
typedef napi_value start_t(napi_env env, pool_job_t *job);

static napi_value
read_metadata(napi_env env, napi_callback_info info, start_t *start)
{
	napi_value argv[3];
	size_t argc = 3;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	if ((job = job_make(env, run_read)) == NULL)
		return (NULL);
	job->u.read.path = job->pool.path;
	if (napi_call_path(env, argv[0], job->pool.path) != napi_ok ||
	    size_of(env, argv[1], &job->u.read.bytes_max) != napi_ok ||
	    size_of(env, argv[2], &job->u.read.keep_max) != napi_ok)
		return (pool_job_refuse(env, &job->pool, "readMetadata(path, most, keep)"));
	return (start(env, &job->pool));
}

static napi_value
js_read_metadata(napi_env env, napi_callback_info info)
{
	return (read_metadata(env, info, pool_job_queue));
}

static napi_value
js_read_metadata_now(napi_env env, napi_callback_info info)
{
	return (read_metadata(env, info, pool_job_do));
}

static napi_value
js_scan_event(napi_env env, napi_callback_info info)
{
	napi_value arg;
	size_t argc = 1;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	if ((job = job_make(env, run_event)) == NULL)
		return (NULL);
	if (bytes_of(env, job, arg, &job->u.event.bytes, &job->u.event.length) != napi_ok)
		return (pool_job_refuse(env, &job->pool, "scanEvent(line)"));
	return (pool_job_queue(env, &job->pool));
}

/* A copy of the stat that a file must have. */
static napi_status
stat_of(napi_env env, napi_value value, uint32_t *stat)
{
	const void *words;
	size_t count;

	if (words_of(env, NULL, value, FILE_STAT_MEMBERS, &words, &count) != napi_ok || count != 1)
		return (napi_invalid_arg);
	(void) memcpy(stat, words, FILE_STAT_MEMBERS * sizeof (*stat));
	return (napi_ok);
}

static napi_value
read_value(napi_env env, napi_callback_info info, start_t *start)
{
	napi_value argv[5];
	size_t argc = 5;
	job_t *job;
	bool is_string;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	if ((job = job_make(env, run_value)) == NULL)
		return (NULL);
	job->u.value.path = job->pool.path;
	job->u.value.stat = job->stat;
	if (napi_call_path(env, argv[0], job->pool.path) != napi_ok || stat_of(env, argv[1], job->stat) != napi_ok ||
	    size_of(env, argv[2], &job->u.value.start) != napi_ok ||
	    size_of(env, argv[3], &job->u.value.end) != napi_ok ||
	    napi_get_value_bool(env, argv[4], &is_string) != napi_ok ||
	    job->u.value.end < job->u.value.start + (is_string ? 2 : 1))
		return (pool_job_refuse(env, &job->pool, "readValue(path, stat, start, end, isString)"));
	job->u.value.is_string = is_string;
	return (start(env, &job->pool));
}

static napi_value
js_read_value(napi_env env, napi_callback_info info)
{
	return (read_value(env, info, pool_job_queue));
}

static napi_value
js_read_value_now(napi_env env, napi_callback_info info)
{
	return (read_value(env, info, pool_job_do));
}

/* Mode, uid and gid of the new file. */
static napi_status
owner_of(napi_env env, napi_value value, file_replace_t *replace)
{
	const int32_t *owner = napi_call_array(env, value, napi_int32_array, METADATA_OWNER_WORDS, "mode, uid, gid");

	if (owner == NULL)
		return (napi_pending_exception);
	replace->mode = (mode_t)owner[0];
	replace->owned = owner[1] != -1;
	replace->uid = (uid_t)owner[1];
	replace->gid = (gid_t)owner[2];
	return (napi_ok);
}

static napi_value
js_splice_metadata(napi_env env, napi_callback_info info)
{
	static const char USAGE[] =
	    "spliceMetadata(path, temp, directory, old, stat, pieces, literals, members, counts, owner, keep)";
	napi_value argv[11];
	size_t argc = 11;
	metadata_splice_t *splice;
	int no_old, no_stat;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, is_null(env, argv[3], &no_old));
	CALL(env, is_null(env, argv[4], &no_stat));
	if ((job = job_make(env, run_splice)) == NULL)
		return (NULL);
	splice = &job->u.splice;
	splice->replace.path = job->pool.path;
	splice->replace.temp = job->pool.temp;
	splice->replace.directory = job->pool.directory;
	splice->expected = no_stat ? NULL : job->stat;
	if (napi_call_path(env, argv[0], job->pool.path) != napi_ok || napi_call_path(env, argv[1], job->pool.temp) != napi_ok ||
	    napi_call_path(env, argv[2], job->pool.directory) != napi_ok ||
	    (!no_old && bytes_of(env, job, argv[3], &splice->text.old, &splice->text.old_length) !=
	    napi_ok) ||
	    (!no_stat && stat_of(env, argv[4], job->stat) != napi_ok) ||
	    text_of(env, job, argv + 5, &splice->text) != napi_ok ||
	    owner_of(env, argv[9], &splice->replace) != napi_ok ||
	    size_of(env, argv[10], &splice->keep_max) != napi_ok)
		return (pool_job_refuse(env, &job->pool, USAGE));
	return (pool_job_queue(env, &job->pool));
}

napi_value
metadata_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "scanMetadata", js_scan_metadata },
		{ "buildMetadata", js_build_metadata },
		{ "scanEvent", js_scan_event },
		{ "jsonBytes", js_json_bytes },
		{ "readMetadata", js_read_metadata },
		{ "readMetadataNow", js_read_metadata_now },
		{ "readValue", js_read_value },
		{ "readValueNow", js_read_value_now },
		{ "spliceMetadata", js_splice_metadata },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
