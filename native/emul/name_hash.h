/*
 * The hash of zone names. In the kernel's table it is part of the file's format.
 */
#ifndef NAME_HASH_H
#define	NAME_HASH_H

#include <stdint.h>

/* FNV-1a: names are uuids, any mixing will do. */
static inline uint32_t
name_hash(const char *name)
{
	uint32_t h = 2166136261u;

	while (*name != '\0')
		h = (h ^ (unsigned char)*name++) * 16777619u;
	return (h);
}

#endif
