/*
 * See json_scan.h.
 */
#include "json_scan.h"

#include <stdlib.h>
#include <string.h>

#define	FIRST_DEPTH	64

void
json_scan_init(json_scan_t *s, const uint8_t *bytes, size_t length)
{
	(void) memset(s, 0, sizeof (*s));
	s->bytes = bytes;
	s->length = length;
}

void
json_scan_fini(json_scan_t *s)
{
	free(s->nesting);
	s->nesting = NULL;
}

void
json_skip_space(json_scan_t *s)
{
	while (s->at < s->length) {
		uint8_t c = s->bytes[s->at];

		if (c != 0x20 && c != 0x0a && c != 0x0d && c != 0x09)
			return;
		s->at++;
	}
}

int
json_peek(const json_scan_t *s)
{
	return (s->at < s->length ? s->bytes[s->at] : -1);
}

static int
skip_digits(json_scan_t *s)
{
	size_t start = s->at;

	while (s->at < s->length && s->bytes[s->at] >= '0' && s->bytes[s->at] <= '9')
		s->at++;
	return (s->at > start ? 0 : -1);
}

static int
skip_number(json_scan_t *s)
{
	if (json_peek(s) == '-')
		s->at++;
	if (json_peek(s) == '0')
		s->at++;
	else if (skip_digits(s) != 0)
		return (-1);
	if (json_peek(s) == '.') {
		s->at++;
		if (skip_digits(s) != 0)
			return (-1);
	}
	if (json_peek(s) == 'e' || json_peek(s) == 'E') {
		s->at++;
		if (json_peek(s) == '+' || json_peek(s) == '-')
			s->at++;
		return (skip_digits(s));
	}
	return (0);
}

static int
skip_word(json_scan_t *s, const char *word)
{
	size_t length = strlen(word);

	if (s->length - s->at < length || memcmp(s->bytes + s->at, word, length) != 0)
		return (-1);
	s->at += length;
	return (0);
}

/* What opens no container; 0 or -1. */
static int
skip_scalar(json_scan_t *s, json_string_t *string)
{
	switch (json_peek(s)) {
	case '"':
		return (json_string_skip(s->bytes, s->length, &s->at, string));
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
nest(json_scan_t *s, size_t depth, uint8_t container)
{
	if (depth == s->nesting_capacity) {
		size_t capacity = depth == 0 ? FIRST_DEPTH : depth * 2;
		uint8_t *larger = realloc(s->nesting, capacity);

		if (larger == NULL)
			return (-1);
		s->nesting = larger;
		s->nesting_capacity = capacity;
	}
	s->nesting[depth] = container;
	return (0);
}

json_result_t
json_skip_name(json_scan_t *s, json_string_t *string, size_t *name_end)
{
	if (json_peek(s) != '"' || json_string_skip(s->bytes, s->length, &s->at, string) != 0)
		return (JSON_INVALID);
	*name_end = s->at;
	json_skip_space(s);
	if (json_peek(s) != ':')
		return (JSON_INVALID);
	s->at++;
	json_skip_space(s);
	return (JSON_OK);
}

/* A name below the value that is skipped: nobody asks where it is. */
static json_result_t
skip_inner_name(json_scan_t *s)
{
	json_string_t string;
	size_t name_end;

	return (json_skip_name(s, &string, &name_end));
}

json_result_t
json_skip_value(json_scan_t *s, json_string_t *string)
{
	size_t depth = 0;
	json_string_t inner;

	for (;;) {
		int c = json_peek(s);

		/* At the start of a value. */
		if (c == '{' || c == '[') {
			if (nest(s, depth, (uint8_t)c) != 0)
				return (JSON_NO_MEMORY);
			depth++;
			s->at++;
			json_skip_space(s);
			if (json_peek(s) != (c == '{' ? '}' : ']')) {
				if (c == '{' && skip_inner_name(s) != 0)
					return (JSON_INVALID);
				continue;
			}
			s->at++;
			depth--;
		} else if (skip_scalar(s, depth == 0 ? string : &inner) != 0) {
			return (JSON_INVALID);
		}
		/* Behind a value: close what it ends, and go on to the next one. */
		for (;;) {
			if (depth == 0)
				return (JSON_OK);
			json_skip_space(s);
			c = json_peek(s);
			s->at++;
			if (c == ',') {
				json_skip_space(s);
				if (s->nesting[depth - 1] == '{' && skip_inner_name(s) != 0)
					return (JSON_INVALID);
				break;
			}
			if (c != (s->nesting[depth - 1] == '{' ? '}' : ']'))
				return (JSON_INVALID);
			depth--;
		}
	}
}

int
json_next_member(json_scan_t *s)
{
	json_skip_space(s);
	switch (json_peek(s)) {
	case ',':
		s->at++;
		json_skip_space(s);
		return (1);
	case '}':
		s->at++;
		return (0);
	default:
		return (-1);
	}
}
