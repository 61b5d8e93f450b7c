/*
 * See metadata_outcome.h.
 */
#include "metadata_outcome.h"

#include <stdlib.h>
#include <string.h>

/* Up to this long, bytes. */
#define	COPIED_BYTES	(4 * 1024)

void
metadata_outcome_fini(metadata_outcome_t *outcome)
{
	metadata_scan_fini(&outcome->scan);
	free(outcome->bytes);
	outcome->bytes = NULL;
}

static napi_status
set_number(napi_env env, napi_value object, const char *name, int number)
{
	napi_value value;
	napi_status status = napi_create_int32(env, number, &value);

	return (status != napi_ok ? status : napi_set_named_property(env, object, name, value));
}

/* Words that JavaScript sees as an array of that name. */
typedef struct part {
	const char *name;
	const void *words;
	size_t count;
} part_t;

/*
 * All words are copied into one block of memory, with an array for each name: a block of its own for each would be most
 * of what the collector of garbage has to do for a short file. A part without a name belongs to the one before it.
 */
static napi_status
set_parts(napi_env env, napi_value object, const part_t *parts, size_t count)
{
	napi_value memory, array;
	napi_status status;
	uint32_t *data = NULL;
	size_t i, next, words = 0, at = 0, start;

	for (i = 0; i < count; i++)
		words += parts[i].count;
	if ((status = napi_create_arraybuffer(env, words * sizeof (*data), (void **)&data, &memory)) != napi_ok)
		return (status);
	for (i = 0; i < count; i = next) {
		start = at;
		next = i;
		do {
			if (parts[next].count > 0)
				(void) memcpy(data + at, parts[next].words, parts[next].count * sizeof (*data));
			at += parts[next].count;
			next++;
		} while (next < count && parts[next].name == NULL);
		if ((status = napi_create_typedarray(env, napi_uint32_array, at - start, memory,
		    start * sizeof (*data), &array)) != napi_ok ||
		    (status = napi_set_named_property(env, object, parts[i].name, array)) != napi_ok)
			return (status);
	}
	return (napi_ok);
}

static void
free_bytes(napi_env env, void *data, void *hint)
{
	(void) env;
	(void) hint;
	free(data);
}

/* A Buffer that takes the memory over, or a copy of what is short: a finalizer costs more. */
static napi_status
set_bytes(napi_env env, napi_value object, const char *name, uint8_t **bytes, size_t length)
{
	napi_value buffer;
	napi_status status;

	if (length <= COPIED_BYTES) {
		status = napi_create_buffer_copy(env, length, *bytes, NULL, &buffer);
	} else {
		status = napi_create_external_buffer(env, length, *bytes, free_bytes, NULL, &buffer);
		if (status == napi_ok)
			*bytes = NULL;
	}
	if (status != napi_ok)
		return (status);
	return (napi_set_named_property(env, object, name, buffer));
}

napi_value
metadata_outcome_value(napi_env env, metadata_outcome_t *outcome)
{
	const metadata_scan_t *scan = &outcome->scan;
	const metadata_root_t *root = &scan->root;
	const part_t parts[] = {
		{ "root", root, METADATA_ROOT_WORDS },
		{ "members", scan->members[0], (size_t)root->maps[0].count * METADATA_MEMBER_WORDS },
		{ NULL, scan->members[1], (size_t)root->maps[1].count * METADATA_MEMBER_WORDS },
		{ "order", scan->order, scan->order_length },
		{ "ranges", outcome->ranges, 2 * METADATA_EVENT_RANGES },
		{ "stat", outcome->stat, FILE_STAT_MEMBERS },
		{ "owner", outcome->owner, METADATA_OWNER_WORDS },
	};
	napi_value object;

	if (napi_create_object(env, &object) != napi_ok ||
	    set_number(env, object, "code", (int)outcome->code) != napi_ok ||
	    set_number(env, object, "err", outcome->err) != napi_ok ||
	    set_number(env, object, "step", outcome->step) != napi_ok ||
	    set_parts(env, object, parts, sizeof (parts) / sizeof (parts[0])) != napi_ok)
		return (NULL);
	if (outcome->scan.names_length > 0 &&
	    set_bytes(env, object, "names", &outcome->scan.names, outcome->scan.names_length) != napi_ok)
		return (NULL);
	if (outcome->bytes != NULL && set_bytes(env, object, "bytes", &outcome->bytes, outcome->length) != napi_ok)
		return (NULL);
	return (object);
}
