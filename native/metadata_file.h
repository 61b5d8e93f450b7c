/*
 * metadata.json as a file: read with its members' offsets, one value of it, and replaced by pieces of
 * itself and new text.
 *
 * Any thread may call these; they block as long as the disk does. What takes the processor for long (a large
 * file's scan) is done by one thread at a time, so that the main thread keeps a processor on a small machine.
 */
#ifndef METADATA_FILE_H
#define	METADATA_FILE_H

#include "file_stat.h"
#include "file_replace.h"
#include "metadata_scan.h"

/* What is refused without a system call having failed. The numbers are src/platform/metadata-text.ts's too. */
typedef enum metadata_file_result {
	METADATA_FILE_OK,
	/* `err` has the errno. */
	METADATA_FILE_FAILED,
	METADATA_FILE_NOT_REGULAR,
	METADATA_FILE_TOO_LARGE,
	/* Not the file that was expected, or it changed each time while it was read. */
	METADATA_FILE_CHANGED,
	METADATA_FILE_BLANK,
	/* No JSON object, or more than is read. */
	METADATA_FILE_NOT_JSON,
	METADATA_FILE_NOT_OBJECT,
	METADATA_FILE_TOO_MANY,
	/* The pieces do not come to what was promised: nothing was written. */
	METADATA_FILE_UNSAFE
} metadata_file_result_t;

typedef struct metadata_read {
	const char *path;
	/* Larger is refused. */
	size_t bytes_max;
	/* Up to this long its bytes are handed out too; freed by whoever called. */
	size_t keep_max;
	/* On the main thread: does not wait for long work on threads of the pool. */
	int at_once;
	uint8_t *bytes;
	size_t length;
	metadata_scan_t scan;
	/* Filled from OK, BLANK, NOT_JSON, NOT_OBJECT, TOO_MANY, TOO_LARGE and NOT_REGULAR on. */
	uint32_t stat[FILE_STAT_MEMBERS];
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	int err;
} metadata_read_t;

metadata_file_result_t metadata_file_read(metadata_read_t *read);

/* The result of a scan in the words of a file's. */
metadata_file_result_t metadata_file_result_of(metadata_scan_result_t result);

typedef struct metadata_value {
	const char *path;
	/* The file must have this stat before and after. */
	const uint32_t *stat;
	size_t start;
	size_t end;
	/* 1: a JSON string, which is handed out as the UTF-8 that it means. */
	int is_string;
	/* As in a read. */
	int at_once;
	uint8_t *bytes;
	size_t length;
	int err;
} metadata_value_t;

metadata_file_result_t metadata_file_value(metadata_value_t *value);

/* Where a piece of the new text comes from. */
enum {
	METADATA_PIECE_OLD,
	METADATA_PIECE_LITERAL,
	/* A literal that is the UTF-8 of a string, which becomes JSON. */
	METADATA_PIECE_STRING
};

typedef struct metadata_piece {
	uint32_t source;
	uint32_t start;
	uint32_t end;
} metadata_piece_t;

#define	METADATA_PIECE_WORDS	3

typedef struct metadata_text {
	const uint8_t *old;
	size_t old_length;
	const uint8_t *literals;
	size_t literals_length;
	const metadata_piece_t *pieces;
	size_t piece_count;
	/* The old text's members, those of the customer's map first. */
	const metadata_member_t *members;
	size_t counts[2];
	/* How many members of each map are new, or have a new value, and how many there are then in all. */
	size_t written[2];
	size_t totals[2];
} metadata_text_t;

/*
 * The new text, scanned. OK only where it is JSON whose maps hold every member that the pieces left whole, at
 * its place and in its order, and besides those as many as were promised; and as many in all. `bytes` is freed by whoever called.
 */
metadata_file_result_t metadata_text_build(const metadata_text_t *text, uint8_t **bytes, size_t *length,
    metadata_scan_t *scan);

typedef struct metadata_splice {
	/* `old` is read from the file unless it is given: that of a short file is known, a missing one has none. */
	metadata_text_t text;
	/* The stat that the file must have; NULL where there is none yet. */
	const uint32_t *expected;
	/* Path, temp, directory, owner and mode; what is written is filled in here. */
	file_replace_t replace;
	file_fault_t fault;
	/* Of the new file. */
	metadata_scan_t scan;
	uint8_t *bytes;
	size_t length;
	size_t keep_max;
} metadata_splice_t;

/* With FAILED, `fault` says what failed. */
metadata_file_result_t metadata_file_splice(metadata_splice_t *splice);

#endif
