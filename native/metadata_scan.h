/*
 * The members of a metadata.json, by their offsets: one pass over its bytes, no parsed copy.
 *
 * Accepts exactly what JSON.parse accepts and nothing else; what it takes is proportional to the bytes, and
 * nesting costs a byte of memory a level, no stack. Bytes that are not UTF-8 are let through inside strings,
 * as the runtime's decoder reads them as U+FFFD. Any thread may call this.
 */
#ifndef METADATA_SCAN_H
#define	METADATA_SCAN_H

#include <stddef.h>
#include <stdint.h>

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

/* What a map's name stands for at the root; of several with one name the last one counts. */
typedef enum metadata_map_state {
	METADATA_MAP_ABSENT,
	METADATA_MAP_NULL,
	METADATA_MAP_OBJECT,
	METADATA_MAP_OTHER
} metadata_map_state_t;

/* In `flags`. */
#define	METADATA_NAME_ESCAPED	1
#define	METADATA_VALUE_ESCAPED	2
#define	METADATA_VALUE_STRING	4
/* An object or an array. */
#define	METADATA_VALUE_CONTAINER	8

/* One member of a map. Offsets are into the file; a name's and a string's include the quotes. */
typedef struct metadata_member {
	uint32_t name_start;
	uint32_t name_end;
	/* Of the colon. */
	uint32_t colon;
	uint32_t value_start;
	uint32_t value_end;
	/* A string's length as UTF-8, or as much as it can come to; of other values that of their text. */
	uint32_t value_bytes;
	uint32_t flags;
} metadata_member_t;

#define	METADATA_MEMBER_WORDS	7

typedef struct metadata_map {
	uint32_t state;
	uint32_t value_start;
	uint32_t value_end;
	uint32_t count;
} metadata_map_t;

/* Offsets of the root: its braces, its first member, and the end of its last one. */
typedef struct metadata_root {
	uint32_t open;
	uint32_t close;
	uint32_t members;
	uint32_t first_name;
	uint32_t first_colon;
	uint32_t first_value;
	uint32_t last_end;
	/* customer_metadata, internal_metadata */
	metadata_map_t maps[2];
} metadata_root_t;

#define	METADATA_ROOT_WORDS	15

typedef struct metadata_scan {
	metadata_root_t root;
	metadata_member_t *members[2];
	/* JSON text of an array of their names, as they are written: those of the customer's map first. */
	uint8_t *names;
	size_t names_length;
} metadata_scan_t;

/* `length` below 4 GiB. Fills `scan`, which metadata_scan_fini frees whatever the result is. */
metadata_scan_result_t metadata_scan(const uint8_t *bytes, size_t length, metadata_scan_t *scan);

void metadata_scan_fini(metadata_scan_t *scan);

/*
 * A JSON string, its quotes included, to the UTF-8 that it means. Returns the length, which is never more than
 * the string's: `into` may be the string itself.
 */
size_t metadata_unescape(const uint8_t *string, size_t length, uint8_t *into);

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
