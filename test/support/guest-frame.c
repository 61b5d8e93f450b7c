/*
 * See guest-frame.h.
 */
#include "guest-frame.h"

#include <stdlib.h>
#include <string.h>

uint32_t
frame_crc32(const char *bytes, size_t length)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < length; i++) {
		crc ^= (unsigned char)bytes[i];
		for (int bit = 0; bit < 8; bit++) {
			crc = (crc & 1) ? (crc >> 1) ^ 0xedb88320 : crc >> 1;
		}
	}
	return (crc ^ 0xffffffff);
}

static const char DIGITS[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *
frame_base64(const char *bytes, size_t length)
{
	char *text = malloc((length + 2) / 3 * 4 + 1);
	size_t out = 0;

	if (text == NULL) {
		return (NULL);
	}
	for (size_t i = 0; i < length; i += 3) {
		uint32_t group = (uint32_t)(unsigned char)bytes[i] << 16;
		if (i + 1 < length) {
			group |= (uint32_t)(unsigned char)bytes[i + 1] << 8;
		}
		if (i + 2 < length) {
			group |= (unsigned char)bytes[i + 2];
		}
		text[out++] = DIGITS[group >> 18 & 63];
		text[out++] = DIGITS[group >> 12 & 63];
		text[out++] = i + 1 < length ? DIGITS[group >> 6 & 63] : '=';
		text[out++] = i + 2 < length ? DIGITS[group & 63] : '=';
	}
	text[out] = '\0';
	return (text);
}

ssize_t
frame_unbase64(char *text)
{
	size_t length = strlen(text);
	size_t out = 0;

	if (length % 4 != 0) {
		return (-1);
	}
	for (size_t i = 0; i < length; i += 4) {
		uint32_t group = 0;
		int padding = 0;
		for (int k = 0; k < 4; k++) {
			const char *digit = strchr(DIGITS, text[i + k]);
			if (text[i + k] == '=' && i + 4 == length && k >= 2) {
				padding++;
				group <<= 6;
			} else if (digit == NULL || padding > 0) {
				return (-1);
			} else {
				group = group << 6 | (uint32_t)(digit - DIGITS);
			}
		}
		for (int k = 0; k < 3 - padding; k++) {
			text[out++] = (char)(group >> (16 - 8 * k));
		}
	}
	return ((ssize_t)out);
}
