/*
 * What a frame of the protocol is made of, for guest-client.c: base64, and the checksum. Written from the
 * protocol's description, as that is.
 */
#ifndef GUEST_FRAME_H
#define	GUEST_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

uint32_t frame_crc32(const char *bytes, size_t length);

/* The caller frees the result; NULL without memory. */
char *frame_base64(const char *bytes, size_t length);

/* Decodes in place. Returns the count of bytes, -1 where it is no base64. */
ssize_t frame_unbase64(char *text);

#endif
