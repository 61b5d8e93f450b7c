/*
 * The members of a metadata.json, by their offsets: one pass over its bytes, no parsed copy.
 *
 * What it takes is proportional to the bytes. Any thread may call this.
 */
#ifndef METADATA_SCAN_H
#define	METADATA_SCAN_H

#include "metadata_offsets.h"

typedef enum metadata_scan_result {
	METADATA_SCAN_OK,
	/* White space only, or nothing. */
	METADATA_SCAN_BLANK,
	METADATA_SCAN_NOT_JSON,
	/* JSON, or its beginning, but no object. */
	METADATA_SCAN_NOT_OBJECT,
	/* More members, or longer names, than are ever read. */
	METADATA_SCAN_TOO_MANY,
	METADATA_SCAN_NO_MEMORY
} metadata_scan_result_t;

/* What is bounded, since an index of it is kept: members of both maps, and bytes of their names. */
#define	METADATA_SCAN_MEMBERS_MAX	32768
#define	METADATA_SCAN_NAME_BYTES_MAX	(8 * 1024 * 1024)

/* `length` below 4 GiB. Fills `scan`, which metadata_scan_fini frees whatever the result is. */
metadata_scan_result_t metadata_scan(const uint8_t *bytes, size_t length, metadata_scan_t *scan);

void metadata_scan_fini(metadata_scan_t *scan);

/* A value of an event of vminfod's stream; 0, 0 where it is missing. */
typedef struct metadata_range {
	uint32_t start;
	uint32_t end;
} metadata_range_t;

#define	METADATA_EVENT_TYPE	0
#define	METADATA_EVENT_ZONENAME	1
#define	METADATA_EVENT_VM	2
#define	METADATA_EVENT_RANGES	3

/* The values of `type`, `zonename` and `vm` at the root of an event. */
metadata_scan_result_t metadata_scan_event(const uint8_t *bytes, size_t length,
    metadata_range_t ranges[METADATA_EVENT_RANGES]);

#endif
