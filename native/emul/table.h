/*
 * What the kernel of a simulated node knows of its zones: a file that every process maps, one record a
 * zone id, and a hash of names. Readers take no lock: a sequence number shows them that they read
 * while somebody wrote, and they read again.
 */
#ifndef TABLE_H
#define	TABLE_H

#include <stdint.h>
#include <sys/stat.h>

#include "illumos.h"
#include "zone_xml.h"

/* One zone that the kernel knows. */
typedef struct zone_record {
	char name[ZONENAME_MAX];
	char brand[BRAND_MAX];
	/* Platform path, without the root's prefix. */
	char rootpath[MAXPATHLEN];
	uint64_t uniqid;
	int32_t initpid;
	/* Next record of the same bucket, 0 for none. */
	int32_t next;
	zone_status_t status;
	zoneid_t id;
} zone_record_t;

struct table_file;

typedef struct table {
	struct table_file *file;
	dev_t dev;
	ino_t ino;
} table_t;

/* Maps the table of the node, again when the file was replaced. -ENOENT: the node never booted. */
int table_open(table_t *t, const char *root);
void table_fini(table_t *t);

/*
 * A record's copy, by its name, or by its id where that is NULL. -ESRCH where there is none; zones that are
 * dying are found too.
 */
int table_zone(table_t *t, const char *root, const char *name, zoneid_t id, zone_record_t *zone);
/* The status of each id, of one time. `status` has MAX_ZONEID + 1 places. */
int table_statuses(table_t *t, const char *root, zone_status_t *status);

/* These are for the holder of the node's lock. */
int table_create(const char *root);
/*
 * Ends what a writer left half done that was killed. First of all after taking the lock: a reader who
 * waits too long takes it too, and would wait for its own thread.
 */
void table_repair(table_t *t);
void table_clear(table_t *t);
/* Takes the id that was free for the longest: `zone->id` and `uniqid` are set here. */
int table_add(table_t *t, const char *root, zone_record_t *zone);
void table_update(table_t *t, zoneid_t id, zone_status_t status, int32_t initpid);
void table_remove(table_t *t, zoneid_t id);

#endif
