/*
 * The glue of metadata_scan and metadata_file.
 *
 *   scanMetadata(bytes) -> Text
 *   buildMetadata(old, pieces, literals, members, counts) -> Text     at once, for texts in memory
 *   readMetadata(path, most, keep) -> Promise<Text>
 *   readValue(path, look, start, end, isString) -> Promise<Text>      only code, err and bytes
 *   spliceMetadata(path, temp, directory, old, look, pieces, literals, members, counts, owner, keep)
 *       -> Promise<Text>      old: the file's text where it is missing or blank, else null; look null likewise
 *
 *   scanEvent(line) -> Promise<Text>      ranges as metadata_scan.h says; the rest is of the text of
 *       `vm`, with offsets from its start
 *
 *   Text { code, err, step, root, members, names, look, owner, bytes? }
 *       code and step as the headers say; root, members Uint32Array as metadata_scan.h has them; names: JSON
 *       text of an array of the members' names; owner Uint32Array of mode, uid, gid; bytes where they are kept
 *   counts   Uint32Array: of both maps the old members, then those that are written, then all new ones
 *   owner    Int32Array of mode, uid, gid; a uid of -1 leaves the owner as it comes
 *
 * A promise never rejects. What is given must not change meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "metadata_addon.h"
#include "metadata_file.h"
#include "napi_call.h"

#define	COUNTS	6
#define	OWNER_MEMBERS	3
/* In `step`: the directory's, not a file's in it. */
#define	FOLDER_BIT	0x100
/* Buffers and arrays that a job keeps alive. */
#define	REFS_MAX	6

/* What is told of a text. */
typedef struct told {
	metadata_file_result_t code;
	int err;
	int step;
	metadata_scan_t scan;
	uint32_t look[FILE_LOOK_MEMBERS];
	uint32_t owner[OWNER_MEMBERS];
	uint8_t *bytes;
	size_t length;
	/* Of an event. */
	metadata_range_t ranges[METADATA_EVENT_RANGES];
} told_t;

typedef struct job {
	napi_async_work work;
	napi_deferred deferred;
	napi_ref refs[REFS_MAX];
	size_t ref_count;
	void (*run)(struct job *);
	union {
		metadata_read_t read;
		metadata_value_t value;
		metadata_splice_t splice;
		struct {
			const uint8_t *bytes;
			size_t length;
		} event;
	} u;
	uint32_t look[FILE_LOOK_MEMBERS];
	told_t told;
	char path[NAPI_CALL_PATH_BYTES];
	char temp[NAPI_CALL_PATH_BYTES];
	char directory[NAPI_CALL_PATH_BYTES];
} job_t;

static void
told_fini(told_t *told)
{
	metadata_scan_fini(&told->scan);
	free(told->bytes);
	told->bytes = NULL;
}

static napi_status
set_number(napi_env env, napi_value object, const char *name, int number)
{
	napi_value value;
	napi_status status = napi_create_int32(env, number, &value);

	return (status != napi_ok ? status : napi_set_named_property(env, object, name, value));
}

/* A Uint32Array of two parts, one after the other. */
static napi_status
set_words(napi_env env, napi_value object, const char *name, const void *first, size_t first_words,
    const void *second, size_t second_words)
{
	napi_value memory, array;
	napi_status status;
	void *data = NULL;
	size_t words = first_words + second_words;

	if ((status = napi_create_arraybuffer(env, words * sizeof (uint32_t), &data, &memory)) != napi_ok ||
	    (status = napi_create_typedarray(env, napi_uint32_array, words, memory, 0, &array)) != napi_ok)
		return (status);
	if (first_words > 0)
		(void) memcpy(data, first, first_words * sizeof (uint32_t));
	if (second_words > 0)
		(void) memcpy((uint32_t *)data + first_words, second, second_words * sizeof (uint32_t));
	return (napi_set_named_property(env, object, name, array));
}

static void
free_bytes(napi_env env, void *data, void *hint)
{
	(void) env;
	(void) hint;
	free(data);
}

/* A Buffer that takes the memory over. */
static napi_status
set_bytes(napi_env env, napi_value object, const char *name, uint8_t **bytes, size_t length)
{
	napi_value buffer;
	napi_status status = napi_create_external_buffer(env, length, *bytes, free_bytes, NULL, &buffer);

	if (status != napi_ok)
		return (status);
	*bytes = NULL;
	return (napi_set_named_property(env, object, name, buffer));
}

/* NULL where the engine makes no values any more. */
static napi_value
told_value(napi_env env, told_t *told)
{
	const metadata_root_t *root = &told->scan.root;
	napi_value object;

	if (napi_create_object(env, &object) != napi_ok ||
	    set_number(env, object, "code", (int)told->code) != napi_ok ||
	    set_number(env, object, "err", told->err) != napi_ok ||
	    set_number(env, object, "step", told->step) != napi_ok ||
	    set_words(env, object, "root", root, METADATA_ROOT_WORDS, NULL, 0) != napi_ok ||
	    set_words(env, object, "members", told->scan.members[0],
	    (size_t)root->maps[0].count * METADATA_MEMBER_WORDS, told->scan.members[1],
	    (size_t)root->maps[1].count * METADATA_MEMBER_WORDS) != napi_ok ||
	    set_words(env, object, "ranges", told->ranges, 2 * METADATA_EVENT_RANGES, NULL, 0) != napi_ok ||
	    set_words(env, object, "look", told->look, FILE_LOOK_MEMBERS, NULL, 0) != napi_ok ||
	    set_words(env, object, "owner", told->owner, OWNER_MEMBERS, NULL, 0) != napi_ok)
		return (NULL);
	if (told->scan.names != NULL &&
	    set_bytes(env, object, "names", &told->scan.names, told->scan.names_length) != napi_ok)
		return (NULL);
	if (told->bytes != NULL && set_bytes(env, object, "bytes", &told->bytes, told->length) != napi_ok)
		return (NULL);
	return (object);
}

static void
run_read(job_t *job)
{
	metadata_read_t *read = &job->u.read;
	told_t *told = &job->told;

	told->code = metadata_file_read(read);
	told->err = read->err;
	told->scan = read->scan;
	told->bytes = read->bytes;
	told->length = read->length;
	(void) memcpy(told->look, read->look, sizeof (told->look));
	told->owner[0] = read->mode;
	told->owner[1] = read->uid;
	told->owner[2] = read->gid;
}

static void
run_value(job_t *job)
{
	metadata_value_t *value = &job->u.value;

	job->told.code = metadata_file_value(value);
	job->told.err = value->err;
	job->told.bytes = value->bytes;
	job->told.length = value->length;
}

static void
run_splice(job_t *job)
{
	metadata_splice_t *splice = &job->u.splice;
	told_t *told = &job->told;

	told->code = metadata_file_splice(splice);
	told->err = splice->fault.err;
	told->step = (int)splice->fault.step | (splice->fault.directory ? FOLDER_BIT : 0);
	told->scan = splice->scan;
	told->bytes = splice->bytes;
	told->length = splice->length;
	(void) memcpy(told->look, splice->replace.look, sizeof (told->look));
	told->owner[0] = (uint32_t)splice->replace.mode;
	told->owner[1] = (uint32_t)splice->replace.uid;
	told->owner[2] = (uint32_t)splice->replace.gid;
}

static void
run_event(job_t *job)
{
	const uint8_t *bytes = job->u.event.bytes;
	told_t *told = &job->told;
	const metadata_range_t *vm = &told->ranges[METADATA_EVENT_VM];
	metadata_scan_result_t result = metadata_scan_event(bytes, job->u.event.length, told->ranges);

	if (result == METADATA_SCAN_OK && vm->end > vm->start)
		result = metadata_scan(bytes + vm->start, vm->end - vm->start, &told->scan);
	told->code = metadata_file_result_of(result);
	told->err = ENOMEM;
}

static void
execute(napi_env env, void *data)
{
	job_t *job = data;

	(void) env;
	job->run(job);
}

static void
job_free(napi_env env, job_t *job)
{
	for (size_t i = 0; i < job->ref_count; i++)
		(void) napi_delete_reference(env, job->refs[i]);
	if (job->work != NULL)
		(void) napi_delete_async_work(env, job->work);
	told_fini(&job->told);
	free(job);
}

static void
complete(napi_env env, napi_status status, void *data)
{
	job_t *job = data;
	napi_value result;

	/* Cancelled: the environment ends, and nobody waits any more. */
	if (status == napi_ok && (result = told_value(env, &job->told)) != NULL)
		(void) napi_resolve_deferred(env, job->deferred, result);
	job_free(env, job);
}

/* Queues the job, which is freed in any case. The promise, or NULL with an exception pending. */
static napi_value
queue(napi_env env, job_t *job)
{
	napi_value name, promise;

	if (napi_create_string_utf8(env, "mdatad:metadata", NAPI_AUTO_LENGTH, &name) != napi_ok ||
	    napi_create_async_work(env, NULL, name, execute, complete, job, &job->work) != napi_ok ||
	    napi_create_promise(env, &job->deferred, &promise) != napi_ok ||
	    napi_queue_async_work(env, job->work) != napi_ok) {
		napi_call_throw(env, "the work could not be queued");
		job_free(env, job);
		return (NULL);
	}
	return (promise);
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
hold(napi_env env, job_t *job, napi_value value)
{
	if (job == NULL)
		return (napi_ok);
	if (job->ref_count == REFS_MAX)
		return (napi_generic_failure);
	return (napi_create_reference(env, value, 1, &job->refs[job->ref_count++]));
}

static napi_status
bytes_of(napi_env env, job_t *job, napi_value value, const uint8_t **bytes, size_t *length)
{
	void *data;
	napi_status status = napi_get_buffer_info(env, value, &data, length);

	*bytes = data;
	return (status != napi_ok ? status : hold(env, job, value));
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
	return (hold(env, job, value));
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
job_make(napi_env env, void (*run)(job_t *))
{
	job_t *job = calloc(1, sizeof (*job));

	if (job == NULL)
		(void) napi_throw_error(env, "ENOMEM", "no memory for work on a file");
	else
		job->run = run;
	return (job);
}

static napi_value
refuse(napi_env env, job_t *job, const char *usage)
{
	job_free(env, job);
	(void) napi_throw_type_error(env, "EINVAL", usage);
	return (NULL);
}

static napi_value
tell_now(napi_env env, told_t *told)
{
	napi_value result = told_value(env, told);

	told_fini(told);
	if (result == NULL)
		napi_call_throw(env, "the result could not be made");
	return (result);
}

static napi_value
js_scan_metadata(napi_env env, napi_callback_info info)
{
	napi_value arg;
	size_t argc = 1, length;
	told_t told;
	void *bytes;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	CALL(env, napi_get_buffer_info(env, arg, &bytes, &length));
	(void) memset(&told, 0, sizeof (told));
	told.code = metadata_file_result_of(metadata_scan(bytes, length, &told.scan));
	told.err = told.code == METADATA_FILE_FAILED ? ENOMEM : 0;
	return (tell_now(env, &told));
}

static napi_value
js_build_metadata(napi_env env, napi_callback_info info)
{
	napi_value argv[5];
	size_t argc = 5;
	metadata_text_t text;
	told_t told;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	(void) memset(&text, 0, sizeof (text));
	(void) memset(&told, 0, sizeof (told));
	CALL(env, bytes_of(env, NULL, argv[0], &text.old, &text.old_length));
	CALL(env, text_of(env, NULL, argv + 1, &text));
	told.code = metadata_text_build(&text, &told.bytes, &told.length, &told.scan);
	told.err = told.code == METADATA_FILE_FAILED ? ENOMEM : 0;
	return (tell_now(env, &told));
}

static napi_value
js_read_metadata(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	size_t argc = 3;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	if ((job = job_make(env, run_read)) == NULL)
		return (NULL);
	job->u.read.path = job->path;
	if (napi_call_path(env, argv[0], job->path) != napi_ok ||
	    size_of(env, argv[1], &job->u.read.bytes_max) != napi_ok ||
	    size_of(env, argv[2], &job->u.read.keep_max) != napi_ok)
		return (refuse(env, job, "readMetadata(path, most, keep)"));
	return (queue(env, job));
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
		return (refuse(env, job, "scanEvent(line)"));
	return (queue(env, job));
}

/* A copy of what a file has to look like. */
static napi_status
look_of(napi_env env, napi_value value, uint32_t *look)
{
	const void *words;
	size_t count;

	if (words_of(env, NULL, value, FILE_LOOK_MEMBERS, &words, &count) != napi_ok || count != 1)
		return (napi_invalid_arg);
	(void) memcpy(look, words, FILE_LOOK_MEMBERS * sizeof (*look));
	return (napi_ok);
}

static napi_value
js_read_value(napi_env env, napi_callback_info info)
{
	napi_value argv[5];
	size_t argc = 5;
	job_t *job;
	bool is_string;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	if ((job = job_make(env, run_value)) == NULL)
		return (NULL);
	job->u.value.path = job->path;
	job->u.value.look = job->look;
	if (napi_call_path(env, argv[0], job->path) != napi_ok || look_of(env, argv[1], job->look) != napi_ok ||
	    size_of(env, argv[2], &job->u.value.start) != napi_ok ||
	    size_of(env, argv[3], &job->u.value.end) != napi_ok ||
	    napi_get_value_bool(env, argv[4], &is_string) != napi_ok ||
	    job->u.value.end < job->u.value.start + (is_string ? 2 : 1))
		return (refuse(env, job, "readValue(path, look, start, end, isString)"));
	job->u.value.is_string = is_string;
	return (queue(env, job));
}

/* Mode, uid and gid of the new file. */
static napi_status
owner_of(napi_env env, napi_value value, file_replace_t *replace)
{
	const int32_t *owner = napi_call_array(env, value, napi_int32_array, OWNER_MEMBERS, "mode, uid, gid");

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
	    "spliceMetadata(path, temp, directory, old, look, pieces, literals, members, counts, owner, keep)";
	napi_value argv[11];
	size_t argc = 11;
	metadata_splice_t *splice;
	int no_old, no_look;
	job_t *job;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, is_null(env, argv[3], &no_old));
	CALL(env, is_null(env, argv[4], &no_look));
	if ((job = job_make(env, run_splice)) == NULL)
		return (NULL);
	splice = &job->u.splice;
	splice->replace.path = job->path;
	splice->replace.temp = job->temp;
	splice->replace.directory = job->directory;
	splice->expected = no_look ? NULL : job->look;
	if (napi_call_path(env, argv[0], job->path) != napi_ok || napi_call_path(env, argv[1], job->temp) != napi_ok ||
	    napi_call_path(env, argv[2], job->directory) != napi_ok ||
	    (!no_old && bytes_of(env, job, argv[3], &splice->text.old, &splice->text.old_length) !=
	    napi_ok) ||
	    (!no_look && look_of(env, argv[4], job->look) != napi_ok) ||
	    text_of(env, job, argv + 5, &splice->text) != napi_ok ||
	    owner_of(env, argv[9], &splice->replace) != napi_ok ||
	    size_of(env, argv[10], &splice->keep_max) != napi_ok)
		return (refuse(env, job, USAGE));
	return (queue(env, job));
}

napi_value
metadata_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "scanMetadata", js_scan_metadata },
		{ "buildMetadata", js_build_metadata },
		{ "scanEvent", js_scan_event },
		{ "readMetadata", js_read_metadata },
		{ "readValue", js_read_value },
		{ "spliceMetadata", js_splice_metadata },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
