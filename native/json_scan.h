/*
 * A place in a JSON text that moves over it value by value; nothing is parsed.
 *
 * Accepts exactly what JSON.parse accepts. What it takes is proportional to the bytes, and nesting costs a byte of memory
 * a level, no stack. Any thread may use one.
 */
#ifndef JSON_SCAN_H
#define	JSON_SCAN_H

#include "json_string.h"

typedef enum json_result {
	JSON_OK,
	JSON_INVALID,
	JSON_NO_MEMORY
} json_result_t;

typedef struct json_scan {
	const uint8_t *bytes;
	size_t length;
	size_t at;
	/* '{' or '[' of each container that is open below the value that is skipped. */
	uint8_t *nesting;
	size_t nesting_capacity;
} json_scan_t;

void json_scan_init(json_scan_t *s, const uint8_t *bytes, size_t length);

void json_scan_fini(json_scan_t *s);

/* White space, as JSON has it. */
void json_skip_space(json_scan_t *s);

/* The byte at the place; -1 at the end. */
int json_peek(const json_scan_t *s);

/* Any value, however deep. `string` is filled where it is one. */
json_result_t json_skip_value(json_scan_t *s, json_string_t *string);

/* A member's name and its colon. Ends at the start of the value. */
json_result_t json_skip_name(json_scan_t *s, json_string_t *string, size_t *name_end);

/* Behind a member: 1 and at the name of the next one, 0 behind the closing brace, -1. */
int json_next_member(json_scan_t *s);

#endif
