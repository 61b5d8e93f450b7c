/*
 * JSON strings and their UTF-8.
 *
 * Bytes that are not UTF-8 are let through inside strings: the runtime's decoder reads them as U+FFFD. Any thread may
 * call these; nothing is kept.
 */
#ifndef JSON_STRING_H
#define	JSON_STRING_H

#include <stddef.h>
#include <stdint.h>

/* What a string holds besides its bytes. */
typedef struct json_string {
	/* Its length as UTF-8, or as much as it can come to. */
	size_t bytes;
	int escaped;
	int utf8;
} json_string_t;

/* From the opening quote at `*at` to behind the closing one; 0, or -1 for what is not a JSON string. */
int json_string_skip(const uint8_t *bytes, size_t length, size_t *at, json_string_t *string);

/*
 * A JSON string, its quotes included, to the UTF-8 that it means; it was skipped before, so no escape is cut. A lone half
 * of a pair becomes U+FFFD. Returns the length, which is never more than the string's: `into` may be the string itself.
 */
size_t json_string_unescape(const uint8_t *string, size_t length, uint8_t *into);

/* UTF-8 as a JSON string, its quotes included, as JSON.stringify writes it: how long it is, and the string itself. */
size_t json_string_length(const uint8_t *utf8, size_t length);
void json_string_escape(const uint8_t *utf8, size_t length, uint8_t *into);

/*
 * UTF-8 with U+FFFD for what is none, as the runtime's decoder puts it. Returns the length, at most three times that of
 * `bytes`.
 */
size_t json_utf8_repair(const uint8_t *bytes, size_t length, uint8_t *into);

#endif
