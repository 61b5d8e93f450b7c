/*
 * See metadata_scan.h.
 */
#include "metadata_scan.h"

#include <stdlib.h>
#include <string.h>

#include "json_scan.h"
#include "metadata_names.h"

#define	CUSTOMER	0
#define	INTERNAL	1
#define	NO_MAP		(-1)
#define	FIRST_CAPACITY	64
/* Longer, even with each character escaped, is not the name of a map. */
#define	MAP_NAME_BYTES	17
#define	MAP_NAME_ESCAPED_BYTES	(6 * MAP_NAME_BYTES)

typedef struct scanner {
	json_scan_t json;
	size_t capacity[2];
	size_t name_bytes;
	metadata_scan_t *out;
} scanner_t;

static metadata_scan_result_t
result_of(json_result_t result)
{
	switch (result) {
	case JSON_OK:
		return (METADATA_SCAN_OK);
	case JSON_NO_MEMORY:
		return (METADATA_SCAN_NO_MEMORY);
	case JSON_INVALID:
		break;
	}
	return (METADATA_SCAN_NOT_JSON);
}

/* Which of the maps has this name, given with its quotes. */
static int
map_named(const uint8_t *name, size_t length, int escaped)
{
	uint8_t plain[MAP_NAME_ESCAPED_BYTES + 2];
	size_t plain_length;

	if (length > sizeof (plain))
		return (NO_MAP);
	if (escaped) {
		plain_length = json_string_unescape(name, length, plain);
	} else {
		plain_length = length - 2;
		(void) memcpy(plain, name + 1, plain_length);
	}
	if (plain_length != MAP_NAME_BYTES)
		return (NO_MAP);
	if (memcmp(plain, "customer_metadata", MAP_NAME_BYTES) == 0)
		return (CUSTOMER);
	return (memcmp(plain, "internal_metadata", MAP_NAME_BYTES) == 0 ? INTERNAL : NO_MAP);
}

static metadata_member_t *
next_member(scanner_t *s, int map)
{
	metadata_map_t *found = &s->out->root.maps[map];

	if (found->count == s->capacity[map]) {
		size_t capacity = s->capacity[map] == 0 ? FIRST_CAPACITY : s->capacity[map] * 2;
		metadata_member_t *larger = realloc(s->out->members[map], capacity * sizeof (*larger));

		if (larger == NULL)
			return (NULL);
		s->out->members[map] = larger;
		s->capacity[map] = capacity;
	}
	return (&s->out->members[map][found->count++]);
}

/* A member from its name to the start of its value; what is found is in `member`. */
static metadata_scan_result_t
scan_name(json_scan_t *json, metadata_member_t *member)
{
	json_string_t name;
	size_t name_end;

	(void) memset(member, 0, sizeof (*member));
	member->name_start = (uint32_t)json->at;
	if (json_skip_name(json, &name, &name_end) != JSON_OK)
		return (METADATA_SCAN_NOT_JSON);
	member->name_end = (uint32_t)name_end;
	member->flags = (name.escaped ? METADATA_NAME_ESCAPED : 0) | (name.utf8 ? 0 : METADATA_NAME_NOT_UTF8);
	member->value_start = (uint32_t)json->at;
	return (METADATA_SCAN_OK);
}

static metadata_scan_result_t
scan_value(json_scan_t *json, metadata_member_t *member)
{
	json_string_t string = { 0, 0, 1 };
	int first = json_peek(json);
	int is_string = first == '"';
	json_result_t result = json_skip_value(json, &string);

	member->value_end = (uint32_t)json->at;
	member->value_bytes = is_string ? (uint32_t)string.bytes : member->value_end - member->value_start;
	if (is_string)
		member->flags |= METADATA_VALUE_STRING | (string.escaped ? METADATA_VALUE_ESCAPED : 0);
	else if (first == '{' || first == '[')
		member->flags |= METADATA_VALUE_CONTAINER;
	return (result_of(result));
}

static metadata_scan_result_t
scan_map(scanner_t *s, int map)
{
	metadata_scan_result_t result;
	metadata_member_t *member;
	int more;

	s->json.at++;
	json_skip_space(&s->json);
	if (json_peek(&s->json) == '}') {
		s->json.at++;
		return (METADATA_SCAN_OK);
	}
	do {
		if ((member = next_member(s, map)) == NULL)
			return (METADATA_SCAN_NO_MEMORY);
		if ((result = scan_name(&s->json, member)) != METADATA_SCAN_OK ||
		    (result = scan_value(&s->json, member)) != METADATA_SCAN_OK)
			return (result);
		s->name_bytes += member->name_end - member->name_start;
		if (s->out->root.maps[0].count + s->out->root.maps[1].count > METADATA_SCAN_MEMBERS_MAX ||
		    s->name_bytes > METADATA_SCAN_NAME_BYTES_MAX)
			return (METADATA_SCAN_TOO_MANY);
	} while ((more = json_next_member(&s->json)) > 0);
	return (more == 0 ? METADATA_SCAN_OK : METADATA_SCAN_NOT_JSON);
}

/* The value of a map's name at the root. */
static metadata_scan_result_t
scan_map_value(scanner_t *s, int map)
{
	metadata_map_t *found = &s->out->root.maps[map];
	json_string_t string;
	metadata_scan_result_t result;
	int c = json_peek(&s->json);

	/* Of doubled names a reader sees the last one. */
	found->count = 0;
	found->value_start = (uint32_t)s->json.at;
	found->state = c == '{' ? METADATA_MAP_OBJECT : c == 'n' ? METADATA_MAP_NULL : METADATA_MAP_OTHER;
	result = c == '{' ? scan_map(s, map) : result_of(json_skip_value(&s->json, &string));
	found->value_end = (uint32_t)s->json.at;
	return (result);
}

static metadata_scan_result_t
scan_root(scanner_t *s)
{
	metadata_root_t *root = &s->out->root;
	metadata_scan_result_t result;
	metadata_member_t member;
	int map, more = 0;

	root->open = (uint32_t)s->json.at++;
	json_skip_space(&s->json);
	if (json_peek(&s->json) == '}')
		s->json.at++;
	else
		more = 1;
	while (more > 0) {
		if ((result = scan_name(&s->json, &member)) != METADATA_SCAN_OK)
			return (result);
		root->members++;
		map = map_named(s->json.bytes + member.name_start, member.name_end - member.name_start,
		    member.flags & METADATA_NAME_ESCAPED);
		result = map == NO_MAP ? scan_value(&s->json, &member) : scan_map_value(s, map);
		if (result != METADATA_SCAN_OK)
			return (result);
		root->last_end = (uint32_t)s->json.at;
		more = json_next_member(&s->json);
	}
	if (more < 0)
		return (METADATA_SCAN_NOT_JSON);
	root->close = (uint32_t)s->json.at - 1;
	json_skip_space(&s->json);
	return (s->json.at == s->json.length ? METADATA_SCAN_OK : METADATA_SCAN_NOT_JSON);
}

metadata_scan_result_t
metadata_scan(const uint8_t *bytes, size_t length, metadata_scan_t *scan)
{
	scanner_t s;
	metadata_scan_result_t result;

	(void) memset(scan, 0, sizeof (*scan));
	(void) memset(&s, 0, sizeof (s));
	json_scan_init(&s.json, bytes, length);
	s.out = scan;
	json_skip_space(&s.json);
	if (s.json.at == length)
		return (METADATA_SCAN_BLANK);
	if (bytes[s.json.at] != '{')
		return (METADATA_SCAN_NOT_OBJECT);
	result = scan_root(&s);
	json_scan_fini(&s.json);
	if (result == METADATA_SCAN_OK && metadata_names_make(bytes, scan) != 0)
		result = METADATA_SCAN_NO_MEMORY;
	return (result);
}

static int
event_member_named(const uint8_t *name, size_t length)
{
	static const char *const NAMES[METADATA_EVENT_RANGES] = { "\"type\"", "\"zonename\"", "\"vm\"" };

	for (int i = 0; i < METADATA_EVENT_RANGES; i++) {
		if (length == strlen(NAMES[i]) && memcmp(name, NAMES[i], length) == 0)
			return (i);
	}
	return (-1);
}

static metadata_scan_result_t
scan_event(json_scan_t *json, metadata_range_t *ranges)
{
	metadata_scan_result_t result;
	metadata_member_t member;
	int named, more = 1;

	json->at++;
	json_skip_space(json);
	if (json_peek(json) == '}') {
		json->at++;
		more = 0;
	}
	while (more > 0) {
		if ((result = scan_name(json, &member)) != METADATA_SCAN_OK ||
		    (result = scan_value(json, &member)) != METADATA_SCAN_OK)
			return (result);
		named = event_member_named(json->bytes + member.name_start, member.name_end - member.name_start);
		if (named >= 0) {
			ranges[named].start = member.value_start;
			ranges[named].end = member.value_end;
		}
		more = json_next_member(json);
	}
	json_skip_space(json);
	return (more == 0 && json->at == json->length ? METADATA_SCAN_OK : METADATA_SCAN_NOT_JSON);
}

metadata_scan_result_t
metadata_scan_event(const uint8_t *bytes, size_t length, metadata_range_t ranges[METADATA_EVENT_RANGES])
{
	json_scan_t json;
	metadata_scan_result_t result;

	(void) memset(ranges, 0, METADATA_EVENT_RANGES * sizeof (*ranges));
	json_scan_init(&json, bytes, length);
	json_skip_space(&json);
	if (json.at == length)
		return (METADATA_SCAN_BLANK);
	if (bytes[json.at] != '{')
		return (METADATA_SCAN_NOT_OBJECT);
	result = scan_event(&json, ranges);
	json_scan_fini(&json);
	return (result);
}

void
metadata_scan_fini(metadata_scan_t *scan)
{
	free(scan->members[0]);
	free(scan->members[1]);
	free(scan->names);
	free(scan->order);
	(void) memset(scan, 0, sizeof (*scan));
}
