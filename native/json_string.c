/*
 * See json_string.h.
 */
#include "json_string.h"

#include <string.h>

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
skip_escape(const uint8_t *bytes, size_t length, size_t *at, json_string_t *string)
{
	int unit;

	string->escaped = 1;
	if (*at >= length)
		return (-1);
	switch (bytes[*at]) {
	case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
		(*at)++;
		string->bytes++;
		return (0);
	case 'u':
		break;
	default:
		return (-1);
	}
	if ((unit = unit_at(bytes, length, *at + 1)) < 0)
		return (-1);
	*at += 5;
	if (unit >= 0xd800 && unit <= 0xdbff && low_half_at(bytes, length, *at) >= 0) {
		*at += 6;
		string->bytes += 4;
	} else {
		string->bytes += unit_bytes(unit);
	}
	return (0);
}

/*
 * The character at `p`: its length, or the negative number of bytes that are one U+FFFD where it is none. Those are as many
 * as could have begun a character (Unicode, "U+FFFD Substitution of Maximal Subparts").
 */
static int
utf8_char(const uint8_t *p, const uint8_t *end)
{
	uint8_t c = p[0], low = 0x80, high = 0xbf;
	int length, at;

	if (c < 0x80)
		return (1);
	if (c < 0xc2 || c > 0xf4)
		return (-1);
	length = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	/* Overlong forms, halves of pairs, and what is beyond Unicode. */
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	for (at = 1; at < length; at++) {
		if (end - p <= at || p[at] < low || p[at] > high)
			return (-at);
		low = 0x80;
		high = 0xbf;
	}
	return (length);
}

static int
is_utf8(const uint8_t *p, const uint8_t *end)
{
	while (p < end) {
		int length = utf8_char(p, end);

		if (length < 0)
			return (0);
		p += length;
	}
	return (1);
}

int
json_string_skip(const uint8_t *bytes, size_t length, size_t *place, json_string_t *string)
{
	size_t start = *place + 1, at = start, from = start;
	uint8_t high = 0;

	string->bytes = 0;
	string->escaped = 0;
	string->utf8 = 1;
	for (;;) {
		uint64_t word;
		uint8_t c;

		while (at + sizeof (word) <= length) {
			(void) memcpy(&word, bytes + at, sizeof (word));
			if (has_special(word))
				break;
			high |= (word & 0x8080808080808080ULL) != 0;
			at += sizeof (word);
		}
		if (at >= length)
			return (-1);
		c = bytes[at];
		if (c < 0x20)
			return (-1);
		if (c != '"' && c != '\\') {
			high |= c >= 0x80;
			at++;
			continue;
		}
		string->bytes += at - from;
		at++;
		if (c == '"')
			break;
		if (skip_escape(bytes, length, &at, string) != 0)
			return (-1);
		from = at;
	}
	if (high && !is_utf8(bytes + start, bytes + at - 1)) {
		string->utf8 = 0;
		string->bytes *= 3;
	}
	*place = at;
	return (0);
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
json_string_unescape(const uint8_t *string, size_t length, uint8_t *into)
{
	/* Without the quotes. */
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

size_t
json_utf8_repair(const uint8_t *bytes, size_t length, uint8_t *into)
{
	const uint8_t *p = bytes, *end = bytes + length;
	size_t put = 0;

	while (p < end) {
		int size = utf8_char(p, end);

		if (size < 0) {
			put += put_utf8(0xfffd, into + put);
			p -= size;
		} else {
			(void) memcpy(into + put, p, (size_t)size);
			put += (size_t)size;
			p += size;
		}
	}
	return (put);
}

/* Where the next character is that is escaped, or the end. */
static size_t
next_special(const uint8_t *utf8, size_t length, size_t at)
{
	uint64_t word;

	while (at + sizeof (word) <= length) {
		(void) memcpy(&word, utf8 + at, sizeof (word));
		if (has_special(word))
			break;
		at += sizeof (word);
	}
	while (at < length && utf8[at] >= 0x20 && utf8[at] != '"' && utf8[at] != '\\')
		at++;
	return (at);
}

/* The letter of a short escape; 0 for a control character that has none. */
static uint8_t
escape_letter(uint8_t c)
{
	switch (c) {
	case '\b':
		return ('b');
	case '\f':
		return ('f');
	case '\n':
		return ('n');
	case '\r':
		return ('r');
	case '\t':
		return ('t');
	default:
		return (c < 0x20 ? 0 : c);
	}
}

size_t
json_string_length(const uint8_t *utf8, size_t length)
{
	size_t total = length + 2;

	for (size_t at = next_special(utf8, length, 0); at < length; at = next_special(utf8, length, at + 1))
		total += escape_letter(utf8[at]) == 0 ? 5 : 1;
	return (total);
}

void
json_string_escape(const uint8_t *utf8, size_t length, uint8_t *into)
{
	static const char HEX[] = "0123456789abcdef";
	size_t from = 0;

	*into++ = '"';
	for (;;) {
		size_t at = next_special(utf8, length, from);
		uint8_t letter;

		(void) memcpy(into, utf8 + from, at - from);
		into += at - from;
		if (at == length)
			break;
		*into++ = '\\';
		if ((letter = escape_letter(utf8[at])) != 0) {
			*into++ = letter;
		} else {
			(void) memcpy(into, "u00", 3);
			into[3] = (uint8_t)HEX[utf8[at] >> 4];
			into[4] = (uint8_t)HEX[utf8[at] & 15];
			into += 5;
		}
		from = at + 1;
	}
	*into = '"';
}
