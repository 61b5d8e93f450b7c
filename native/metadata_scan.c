/*
 * See metadata_scan.h.
 */
#include "metadata_scan.h"

#include <stdlib.h>
#include <string.h>

#define	CUSTOMER	0
#define	INTERNAL	1
#define	NO_MAP		(-1)
#define	FIRST_ROOM	64
#define	FIRST_DEPTH	64
/* Longer, even with each character escaped, is not the name of a map. */
#define	MAP_NAME_BYTES	17
#define	MAP_NAME_ESCAPED_BYTES	(6 * MAP_NAME_BYTES)

typedef struct scanner {
	const uint8_t *bytes;
	size_t length;
	size_t at;
	/* '{' or '[' of each container that is open, below the maps' own. */
	uint8_t *nesting;
	size_t nesting_room;
	size_t room[2];
	size_t name_bytes;
	metadata_scan_t *out;
} scanner_t;

/* What a string holds besides its bytes. */
typedef struct string_facts {
	/* Its length as UTF-8. */
	size_t bytes;
	int escaped;
} string_facts_t;

static void
skip_space(scanner_t *s)
{
	while (s->at < s->length) {
		uint8_t c = s->bytes[s->at];

		if (c != 0x20 && c != 0x0a && c != 0x0d && c != 0x09)
			return;
		s->at++;
	}
}

static int
peek(const scanner_t *s)
{
	return (s->at < s->length ? s->bytes[s->at] : -1);
}

/* Whether one of the eight bytes is a quote, a backslash or a control character. */
static int
has_special(uint64_t word)
{
	const uint64_t ones = 0x0101010101010101ULL, highs = 0x8080808080808080ULL;
	uint64_t quote = word ^ (ones * 0x22), backslash = word ^ (ones * 0x5c);

	return ((((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) |
	    ((backslash - ones) & ~backslash)) & highs) != 0;
}

static int
hex_of(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return (c - '0');
	c |= 0x20;
	return (c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1);
}

/* The four digits at `at`; -1 where they are none, or the end comes before. */
static int
unit_at(const uint8_t *bytes, size_t length, size_t at)
{
	int unit = 0, digit;
	size_t end = at + 4;

	if (end > length)
		return (-1);
	for (; at < end; at++) {
		if ((digit = hex_of(bytes[at])) < 0)
			return (-1);
		unit = unit * 16 + digit;
	}
	return (unit);
}

/* How many bytes of UTF-8 a unit of UTF-16 is that is no half of a pair; a lone half becomes U+FFFD. */
static size_t
unit_bytes(int unit)
{
	return (unit < 0x80 ? 1 : unit < 0x800 ? 2 : 3);
}

/* Whether a \u escape of the second half of a pair stands at `at`. */
static int
low_half_at(const uint8_t *bytes, size_t length, size_t at)
{
	int unit;

	if (at + 6 > length || bytes[at] != '\\' || bytes[at + 1] != 'u')
		return (-1);
	unit = unit_at(bytes, length, at + 2);
	return (unit >= 0xdc00 && unit <= 0xdfff ? unit : -1);
}

/* Behind the backslash; 0 or -1. */
static int
skip_escape(scanner_t *s, string_facts_t *facts)
{
	int unit;

	facts->escaped = 1;
	switch (peek(s)) {
	case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
		s->at++;
		facts->bytes++;
		return (0);
	case 'u':
		break;
	default:
		return (-1);
	}
	if ((unit = unit_at(s->bytes, s->length, s->at + 1)) < 0)
		return (-1);
	s->at += 5;
	if (unit >= 0xd800 && unit <= 0xdbff && low_half_at(s->bytes, s->length, s->at) >= 0) {
		s->at += 6;
		facts->bytes += 4;
	} else {
		facts->bytes += unit_bytes(unit);
	}
	return (0);
}

/* Whether the bytes are UTF-8: then their length is also that of what is read from them. */
static int
is_utf8(const uint8_t *p, const uint8_t *end)
{
	while (p < end) {
		uint8_t c = *p++;
		int more;
		uint32_t point;

		if (c < 0x80)
			continue;
		if (c >= 0xc2 && c <= 0xdf) {
			more = 1;
			point = c & 0x1f;
		} else if (c >= 0xe0 && c <= 0xef) {
			more = 2;
			point = c & 0x0f;
		} else if (c >= 0xf0 && c <= 0xf4) {
			more = 3;
			point = c & 0x07;
		} else {
			return (0);
		}
		if (end - p < more)
			return (0);
		for (int i = 0; i < more; i++, p++) {
			if ((*p & 0xc0) != 0x80)
				return (0);
			point = point << 6 | (*p & 0x3f);
		}
		if ((more == 2 && (point < 0x800 || (point >= 0xd800 && point <= 0xdfff))) ||
		    (more == 3 && (point < 0x10000 || point > 0x10ffff)))
			return (0);
	}
	return (1);
}

/* From the opening quote to behind the closing one; 0 or -1. */
static int
skip_string(scanner_t *s, string_facts_t *facts)
{
	const uint8_t *bytes = s->bytes;
	size_t start = ++s->at, from = start;
	uint8_t high = 0;

	facts->bytes = 0;
	facts->escaped = 0;
	for (;;) {
		uint64_t word;
		uint8_t c;

		while (s->at + sizeof (word) <= s->length) {
			(void) memcpy(&word, bytes + s->at, sizeof (word));
			if (has_special(word))
				break;
			high |= (word & 0x8080808080808080ULL) != 0;
			s->at += sizeof (word);
		}
		if (s->at >= s->length)
			return (-1);
		c = bytes[s->at];
		if (c < 0x20)
			return (-1);
		if (c != '"' && c != '\\') {
			high |= c >= 0x80;
			s->at++;
			continue;
		}
		facts->bytes += s->at - from;
		s->at++;
		if (c == '"')
			break;
		if (skip_escape(s, facts) != 0)
			return (-1);
		from = s->at;
	}
	if (high && !is_utf8(bytes + start, bytes + s->at - 1))
		facts->bytes *= 3;
	return (0);
}

static int
skip_digits(scanner_t *s)
{
	size_t start = s->at;

	while (s->at < s->length && s->bytes[s->at] >= '0' && s->bytes[s->at] <= '9')
		s->at++;
	return (s->at > start ? 0 : -1);
}

static int
skip_number(scanner_t *s)
{
	if (peek(s) == '-')
		s->at++;
	if (peek(s) == '0')
		s->at++;
	else if (skip_digits(s) != 0)
		return (-1);
	if (peek(s) == '.') {
		s->at++;
		if (skip_digits(s) != 0)
			return (-1);
	}
	if (peek(s) == 'e' || peek(s) == 'E') {
		s->at++;
		if (peek(s) == '+' || peek(s) == '-')
			s->at++;
		return (skip_digits(s));
	}
	return (0);
}

static int
skip_word(scanner_t *s, const char *word)
{
	size_t length = strlen(word);

	if (s->length - s->at < length || memcmp(s->bytes + s->at, word, length) != 0)
		return (-1);
	s->at += length;
	return (0);
}

/* What opens no container; 0 or -1. */
static int
skip_scalar(scanner_t *s, string_facts_t *facts)
{
	switch (peek(s)) {
	case '"':
		return (skip_string(s, facts));
	case 't':
		return (skip_word(s, "true"));
	case 'f':
		return (skip_word(s, "false"));
	case 'n':
		return (skip_word(s, "null"));
	default:
		return (skip_number(s));
	}
}

static int
nest(scanner_t *s, size_t depth, uint8_t container)
{
	if (depth == s->nesting_room) {
		size_t room = depth == 0 ? FIRST_DEPTH : depth * 2;
		uint8_t *larger = realloc(s->nesting, room);

		if (larger == NULL)
			return (-1);
		s->nesting = larger;
		s->nesting_room = room;
	}
	s->nesting[depth] = container;
	return (0);
}

/* A member's name and its colon, blanks around it included. */
static int
skip_name(scanner_t *s)
{
	string_facts_t facts;

	if (peek(s) != '"' || skip_string(s, &facts) != 0)
		return (-1);
	skip_space(s);
	if (peek(s) != ':')
		return (-1);
	s->at++;
	skip_space(s);
	return (0);
}

/* Any value, however deep; its facts are filled where it is a string. */
static metadata_scan_result_t
skip_value(scanner_t *s, string_facts_t *facts)
{
	size_t depth = 0;
	string_facts_t inner;

	for (;;) {
		int c = peek(s);

		/* At the start of a value. */
		if (c == '{' || c == '[') {
			if (nest(s, depth, (uint8_t)c) != 0)
				return (METADATA_SCAN_NO_MEMORY);
			depth++;
			s->at++;
			skip_space(s);
			if (peek(s) != (c == '{' ? '}' : ']')) {
				if (c == '{' && skip_name(s) != 0)
					return (METADATA_SCAN_NOT_JSON);
				continue;
			}
			s->at++;
			depth--;
		} else if (skip_scalar(s, depth == 0 ? facts : &inner) != 0) {
			return (METADATA_SCAN_NOT_JSON);
		}
		/* Behind a value: close what it ends, and go on to the next one. */
		for (;;) {
			if (depth == 0)
				return (METADATA_SCAN_OK);
			skip_space(s);
			c = peek(s);
			s->at++;
			if (c == ',') {
				skip_space(s);
				if (s->nesting[depth - 1] == '{' && skip_name(s) != 0)
					return (METADATA_SCAN_NOT_JSON);
				break;
			}
			if (c != (s->nesting[depth - 1] == '{' ? '}' : ']'))
				return (METADATA_SCAN_NOT_JSON);
			depth--;
		}
	}
}

static size_t
put_utf8(uint32_t point, uint8_t *into)
{
	if (point < 0x80) {
		into[0] = (uint8_t)point;
		return (1);
	}
	if (point < 0x800) {
		into[0] = (uint8_t)(0xc0 | point >> 6);
		into[1] = (uint8_t)(0x80 | (point & 0x3f));
		return (2);
	}
	if (point < 0x10000) {
		into[0] = (uint8_t)(0xe0 | point >> 12);
		into[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
		into[2] = (uint8_t)(0x80 | (point & 0x3f));
		return (3);
	}
	into[0] = (uint8_t)(0xf0 | point >> 18);
	into[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
	into[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
	into[3] = (uint8_t)(0x80 | (point & 0x3f));
	return (4);
}

static uint32_t
plain_escape(uint8_t c)
{
	switch (c) {
	case 'b':
		return ('\b');
	case 'f':
		return ('\f');
	case 'n':
		return ('\n');
	case 'r':
		return ('\r');
	case 't':
		return ('\t');
	default:
		return (c);
	}
}

size_t
metadata_unescape(const uint8_t *string, size_t length, uint8_t *into)
{
	/* Without the quotes; it was scanned before, so no escape is cut. */
	size_t end = length - 1, at = 1, put = 0;

	while (at < end) {
		const uint8_t *escape = memchr(string + at, '\\', end - at);
		size_t run = (escape == NULL ? end : (size_t)(escape - string)) - at;
		int unit, low;

		(void) memmove(into + put, string + at, run);
		put += run;
		at += run;
		if (at >= end)
			break;
		if (string[at + 1] != 'u') {
			put += put_utf8(plain_escape(string[at + 1]), into + put);
			at += 2;
			continue;
		}
		unit = unit_at(string, end, at + 2);
		at += 6;
		if (unit >= 0xd800 && unit <= 0xdbff && (low = low_half_at(string, end, at)) >= 0) {
			put += put_utf8(0x10000 + (((uint32_t)unit & 0x3ff) << 10 | ((uint32_t)low & 0x3ff)),
			    into + put);
			at += 6;
		} else if (unit >= 0xd800 && unit <= 0xdfff) {
			put += put_utf8(0xfffd, into + put);
		} else {
			put += put_utf8((uint32_t)unit, into + put);
		}
	}
	return (put);
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
		plain_length = metadata_unescape(name, length, plain);
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

	if (found->count == s->room[map]) {
		size_t room = s->room[map] == 0 ? FIRST_ROOM : s->room[map] * 2;
		metadata_member_t *larger = realloc(s->out->members[map], room * sizeof (*larger));

		if (larger == NULL)
			return (NULL);
		s->out->members[map] = larger;
		s->room[map] = room;
	}
	return (&s->out->members[map][found->count++]);
}

/* A member from its name to the end of its value; what is found is in `member`. */
static metadata_scan_result_t
scan_member(scanner_t *s, metadata_member_t *member)
{
	string_facts_t facts;

	(void) memset(member, 0, sizeof (*member));
	member->name_start = (uint32_t)s->at;
	if (peek(s) != '"' || skip_string(s, &facts) != 0)
		return (METADATA_SCAN_NOT_JSON);
	member->name_end = (uint32_t)s->at;
	member->flags = facts.escaped ? METADATA_NAME_ESCAPED : 0;
	skip_space(s);
	if (peek(s) != ':')
		return (METADATA_SCAN_NOT_JSON);
	member->colon = (uint32_t)s->at++;
	skip_space(s);
	member->value_start = (uint32_t)s->at;
	return (METADATA_SCAN_OK);
}

static metadata_scan_result_t
scan_member_value(scanner_t *s, metadata_member_t *member)
{
	string_facts_t facts = { 0, 0 };
	int first = peek(s);
	int is_string = first == '"';
	metadata_scan_result_t result = skip_value(s, &facts);

	member->value_end = (uint32_t)s->at;
	member->value_bytes = is_string ? (uint32_t)facts.bytes : member->value_end - member->value_start;
	if (is_string)
		member->flags |= METADATA_VALUE_STRING | (facts.escaped ? METADATA_VALUE_ESCAPED : 0);
	else if (first == '{' || first == '[')
		member->flags |= METADATA_VALUE_CONTAINER;
	return (result);
}

/* Behind a member: 1 where another one follows, 0 behind the closing brace, -1. */
static int
goes_on(scanner_t *s)
{
	skip_space(s);
	switch (peek(s)) {
	case ',':
		s->at++;
		skip_space(s);
		return (1);
	case '}':
		s->at++;
		return (0);
	default:
		return (-1);
	}
}

static metadata_scan_result_t
scan_map(scanner_t *s, int map)
{
	metadata_scan_result_t result;
	metadata_member_t *member;
	int more;

	s->at++;
	skip_space(s);
	if (peek(s) == '}') {
		s->at++;
		return (METADATA_SCAN_OK);
	}
	do {
		if ((member = next_member(s, map)) == NULL)
			return (METADATA_SCAN_NO_MEMORY);
		if ((result = scan_member(s, member)) != METADATA_SCAN_OK ||
		    (result = scan_member_value(s, member)) != METADATA_SCAN_OK)
			return (result);
		s->name_bytes += member->name_end - member->name_start;
		if (s->out->root.maps[0].count + s->out->root.maps[1].count > METADATA_SCAN_MEMBERS_MAX ||
		    s->name_bytes > METADATA_SCAN_NAME_BYTES_MAX)
			return (METADATA_SCAN_TOO_MANY);
	} while ((more = goes_on(s)) > 0);
	return (more == 0 ? METADATA_SCAN_OK : METADATA_SCAN_NOT_JSON);
}

/* The value of a map's name at the root. */
static metadata_scan_result_t
scan_map_value(scanner_t *s, int map)
{
	metadata_map_t *found = &s->out->root.maps[map];
	string_facts_t facts;
	metadata_scan_result_t result;
	int c = peek(s);

	/* Of doubled names a reader sees the last one. */
	found->count = 0;
	found->value_start = (uint32_t)s->at;
	found->state = c == '{' ? METADATA_MAP_OBJECT : c == 'n' ? METADATA_MAP_NULL : METADATA_MAP_OTHER;
	result = c == '{' ? scan_map(s, map) : skip_value(s, &facts);
	found->value_end = (uint32_t)s->at;
	return (result);
}

static metadata_scan_result_t
scan_root(scanner_t *s)
{
	metadata_root_t *root = &s->out->root;
	metadata_scan_result_t result;
	metadata_member_t member;
	int map, more = 0;

	root->open = (uint32_t)s->at++;
	skip_space(s);
	if (peek(s) == '}')
		s->at++;
	else
		more = 1;
	while (more > 0) {
		if ((result = scan_member(s, &member)) != METADATA_SCAN_OK)
			return (result);
		if (root->members++ == 0) {
			root->first_name = member.name_start;
			root->first_colon = member.colon;
			root->first_value = member.value_start;
		}
		map = map_named(s->bytes + member.name_start, member.name_end - member.name_start,
		    member.flags & METADATA_NAME_ESCAPED);
		result = map == NO_MAP ? scan_member_value(s, &member) : scan_map_value(s, map);
		if (result != METADATA_SCAN_OK)
			return (result);
		root->last_end = (uint32_t)s->at;
		more = goes_on(s);
	}
	if (more < 0)
		return (METADATA_SCAN_NOT_JSON);
	root->close = (uint32_t)s->at - 1;
	skip_space(s);
	return (s->at == s->length ? METADATA_SCAN_OK : METADATA_SCAN_NOT_JSON);
}

static metadata_scan_result_t
copy_names(const uint8_t *bytes, metadata_scan_t *scan)
{
	size_t length = 2, at = 0;

	for (int map = 0; map < 2; map++) {
		for (size_t i = 0; i < scan->root.maps[map].count; i++)
			length += scan->members[map][i].name_end - scan->members[map][i].name_start + 1;
	}
	if ((scan->names = malloc(length)) == NULL)
		return (METADATA_SCAN_NO_MEMORY);
	scan->names[at++] = '[';
	for (int map = 0; map < 2; map++) {
		for (size_t i = 0; i < scan->root.maps[map].count; i++) {
			const metadata_member_t *member = &scan->members[map][i];
			size_t size = member->name_end - member->name_start;

			if (at > 1)
				scan->names[at++] = ',';
			(void) memcpy(scan->names + at, bytes + member->name_start, size);
			at += size;
		}
	}
	scan->names[at++] = ']';
	scan->names_length = at;
	return (METADATA_SCAN_OK);
}

metadata_scan_result_t
metadata_scan(const uint8_t *bytes, size_t length, metadata_scan_t *scan)
{
	scanner_t s;
	metadata_scan_result_t result;

	(void) memset(scan, 0, sizeof (*scan));
	(void) memset(&s, 0, sizeof (s));
	s.bytes = bytes;
	s.length = length;
	s.out = scan;
	skip_space(&s);
	if (s.at == length)
		return (METADATA_SCAN_BLANK);
	if (bytes[s.at] != '{')
		return (METADATA_SCAN_NOT_OBJECT);
	result = scan_root(&s);
	free(s.nesting);
	return (result == METADATA_SCAN_OK ? copy_names(bytes, scan) : result);
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
scan_event(scanner_t *s, metadata_range_t *ranges)
{
	metadata_scan_result_t result;
	metadata_member_t member;
	int named, more = 1;

	s->at++;
	skip_space(s);
	if (peek(s) == '}') {
		s->at++;
		more = 0;
	}
	while (more > 0) {
		if ((result = scan_member(s, &member)) != METADATA_SCAN_OK ||
		    (result = scan_member_value(s, &member)) != METADATA_SCAN_OK)
			return (result);
		named = event_member_named(s->bytes + member.name_start, member.name_end - member.name_start);
		if (named >= 0) {
			ranges[named].start = member.value_start;
			ranges[named].end = member.value_end;
		}
		more = goes_on(s);
	}
	skip_space(s);
	return (more == 0 && s->at == s->length ? METADATA_SCAN_OK : METADATA_SCAN_NOT_JSON);
}

metadata_scan_result_t
metadata_scan_event(const uint8_t *bytes, size_t length, metadata_range_t ranges[METADATA_EVENT_RANGES])
{
	scanner_t s;
	metadata_scan_result_t result;

	(void) memset(ranges, 0, METADATA_EVENT_RANGES * sizeof (*ranges));
	(void) memset(&s, 0, sizeof (s));
	s.bytes = bytes;
	s.length = length;
	skip_space(&s);
	if (s.at == length)
		return (METADATA_SCAN_BLANK);
	if (bytes[s.at] != '{')
		return (METADATA_SCAN_NOT_OBJECT);
	result = scan_event(&s, ranges);
	free(s.nesting);
	return (result);
}

void
metadata_scan_fini(metadata_scan_t *scan)
{
	free(scan->members[0]);
	free(scan->members[1]);
	free(scan->names);
	(void) memset(scan, 0, sizeof (*scan));
}
