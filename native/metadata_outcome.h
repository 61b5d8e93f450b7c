/*
 * What work on a metadata text found, as JavaScript gets it: an object with numbers, arrays of words and the bytes, whose
 * memory it takes over.
 */
#ifndef METADATA_OUTCOME_H
#define	METADATA_OUTCOME_H

#include <node_api.h>

#include "metadata_file.h"

/* Mode, uid, gid. */
#define	METADATA_OWNER_WORDS	3

typedef struct metadata_outcome {
	metadata_file_result_t code;
	int err;
	int step;
	metadata_scan_t scan;
	uint32_t stat[FILE_STAT_MEMBERS];
	uint32_t owner[METADATA_OWNER_WORDS];
	uint8_t *bytes;
	size_t length;
	/* Of an event. */
	metadata_range_t ranges[METADATA_EVENT_RANGES];
} metadata_outcome_t;

/* NULL where the engine makes no values any more. On the main thread. */
napi_value metadata_outcome_value(napi_env env, metadata_outcome_t *outcome);

/* Frees what JavaScript has not got. */
void metadata_outcome_fini(metadata_outcome_t *outcome);

#endif
