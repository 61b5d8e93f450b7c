/*
 * The kernel's table as it lies in its file: for table.c, which writes it, and table_read.c.
 *
 * The sequence number is odd while somebody writes. A writer that was killed in the middle leaves it
 * odd for ever: whoever has waited too long takes the lock, which the dead do not hold, and repairs.
 */
#ifndef TABLE_FILE_H
#define	TABLE_FILE_H

#include <stdatomic.h>

#include "name_hash.h"
#include "table.h"

#define	TABLE_IDS	(MAX_ZONEID + 1)
/* About half as many as ids, a power of two. */
#define	TABLE_BUCKETS	4096

struct table_head {
	atomic_uint sequence;
	int32_t last_id;
	uint64_t last_uniqid;
	int32_t buckets[TABLE_BUCKETS];
	/* Apart from the records, so that a listing reads 40 kB and not 12 MB. */
	zone_status_t status[TABLE_IDS];
};

typedef struct table_file {
	struct table_head head;
	zone_record_t zones[TABLE_IDS];
} table_file_t;

static inline uint32_t
table_bucket(const char *name)
{
	return (name_hash(name) % TABLE_BUCKETS);
}

static inline int
table_known(zone_status_t status)
{
	return (status != ZONE_IS_UNINITIALIZED);
}

#endif
