/*
 * See metadata_outcome.h.
 */
#include "metadata_outcome.h"

#include <stdlib.h>
#include <string.h>

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

napi_value
metadata_outcome_value(napi_env env, metadata_outcome_t *outcome)
{
	const metadata_root_t *root = &outcome->scan.root;
	napi_value object;

	if (napi_create_object(env, &object) != napi_ok ||
	    set_number(env, object, "code", (int)outcome->code) != napi_ok ||
	    set_number(env, object, "err", outcome->err) != napi_ok ||
	    set_number(env, object, "step", outcome->step) != napi_ok ||
	    set_words(env, object, "root", root, METADATA_ROOT_WORDS, NULL, 0) != napi_ok ||
	    set_words(env, object, "members", outcome->scan.members[0],
	    (size_t)root->maps[0].count * METADATA_MEMBER_WORDS, outcome->scan.members[1],
	    (size_t)root->maps[1].count * METADATA_MEMBER_WORDS) != napi_ok ||
	    set_words(env, object, "order", outcome->scan.order, outcome->scan.order_length, NULL, 0) != napi_ok ||
	    set_words(env, object, "ranges", outcome->ranges, 2 * METADATA_EVENT_RANGES, NULL, 0) != napi_ok ||
	    set_words(env, object, "stat", outcome->stat, FILE_STAT_MEMBERS, NULL, 0) != napi_ok ||
	    set_words(env, object, "owner", outcome->owner, METADATA_OWNER_WORDS, NULL, 0) != napi_ok)
		return (NULL);
	if (outcome->scan.names_length > 0 &&
	    set_bytes(env, object, "names", &outcome->scan.names, outcome->scan.names_length) != napi_ok)
		return (NULL);
	if (outcome->bytes != NULL && set_bytes(env, object, "bytes", &outcome->bytes, outcome->length) != napi_ok)
		return (NULL);
	return (object);
}
