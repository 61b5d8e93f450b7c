/*
 * Where the members of a metadata.json stand in its text, as a scan finds them and JavaScript gets them: words of 32 bits.
 */
#ifndef METADATA_OFFSETS_H
#define	METADATA_OFFSETS_H

#include <stddef.h>
#include <stdint.h>

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
/* Begins with what could be a namespace: has a colon. */
#define	METADATA_NAME_COLON	16
/* Ends in `_pw`. */
#define	METADATA_NAME_PASSWORD	32
/* A name that KEYS may list: not empty, no control character, not of `sdc:`. */
#define	METADATA_NAME_LISTABLE	64
#define	METADATA_NAME_NOT_UTF8	128

/* One member of a map. Offsets are into the file; a name's and a string's include the quotes. */
typedef struct metadata_member {
	uint32_t name_start;
	uint32_t name_end;
	uint32_t value_start;
	uint32_t value_end;
	/* A string's length as UTF-8, or as much as it can come to; of other values that of their text. */
	uint32_t value_bytes;
	uint32_t flags;
	/* Where the name, as it is meant, stands in `names`; an LF follows it there. */
	uint32_t plain_start;
	uint32_t plain_end;
} metadata_member_t;

#define	METADATA_MEMBER_WORDS	8

typedef struct metadata_map {
	uint32_t state;
	uint32_t value_start;
	uint32_t value_end;
	uint32_t count;
	/* Members that a reader sees: of doubled names the last one. */
	uint32_t visible;
} metadata_map_t;

/* Offsets of the root: its braces, and the end of its last member. */
typedef struct metadata_root {
	uint32_t open;
	uint32_t close;
	uint32_t members;
	uint32_t last_end;
	/* customer_metadata, internal_metadata */
	metadata_map_t maps[2];
	/* What counts for a guest's limits: names and values as JSON, colons and commas; and how many members. */
	uint32_t guest_bytes;
	uint32_t guest_keys;
} metadata_root_t;

#define	METADATA_ROOT_WORDS	16

typedef struct metadata_scan {
	metadata_root_t root;
	metadata_member_t *members[2];
	/* The members' names as UTF-8, an LF after each: those of the customer's map first. */
	uint8_t *names;
	size_t names_length;
	/*
	 * Numbers of members, the customer's first. Of each map all members, sorted by their names' bytes and those of one
	 * name as they stand in the text; then of each map the visible ones in the order in which JSON.parse has them.
	 */
	uint32_t *order;
	size_t order_length;
} metadata_scan_t;

#endif
