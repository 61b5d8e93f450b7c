/*
 * Reading the kernel's table: copies, taken without a lock, and taken again where somebody wrote meanwhile.
 */
#define	_GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "store.h"
#include "table_file.h"

/* A writer is done in microseconds; so many yields are milliseconds. */
#define	PATIENCE	1000

static int
read_begin(table_t *t, const char *root, unsigned int *sequence)
{
	int tries;
	int lock;

	for (tries = 0; tries < PATIENCE; tries++) {
		*sequence = atomic_load(&t->file->head.sequence);
		if (*sequence % 2 == 0)
			return (0);
		(void) sched_yield();
	}
	lock = store_lock(root, STORE_LOCK);
	if (lock < 0)
		return (lock);
	table_repair(t);
	*sequence = atomic_load(&t->file->head.sequence);
	store_unlock(lock);
	return (0);
}

/* True when nobody wrote since read_begin: what was copied is one picture. */
static int
read_settled(table_t *t, unsigned int sequence)
{
	atomic_thread_fence(memory_order_acquire);
	return (atomic_load_explicit(&t->file->head.sequence, memory_order_relaxed) == sequence);
}

static int
copy_zone(const table_file_t *file, zoneid_t id, zone_record_t *zone)
{
	if (id < MIN_USERZONEID || id > MAX_ZONEID || !table_known(file->head.status[id]))
		return (-ESRCH);
	memcpy(zone, &file->zones[id], sizeof (*zone));
	zone->status = file->head.status[id];
	zone->id = id;
	return (0);
}

static zoneid_t
find(const table_file_t *file, const char *name)
{
	/* A picture that changes under the reader may have a loop in it. */
	int steps = TABLE_IDS;
	int32_t id = file->head.buckets[table_bucket(name)];

	while (id >= MIN_USERZONEID && id <= MAX_ZONEID && steps-- > 0) {
		if (strncmp(file->zones[id].name, name, ZONENAME_MAX) == 0)
			return (id);
		id = file->zones[id].next;
	}
	return (-1);
}

int
table_by_name(table_t *t, const char *root, const char *name, zone_record_t *zone)
{
	unsigned int sequence;
	int found;
	int err;

	do {
		if ((err = read_begin(t, root, &sequence)) != 0)
			return (err);
		found = copy_zone(t->file, find(t->file, name), zone);
	} while (!read_settled(t, sequence));
	return (found);
}

int
table_by_id(table_t *t, const char *root, zoneid_t id, zone_record_t *zone)
{
	unsigned int sequence;
	int found;
	int err;

	do {
		if ((err = read_begin(t, root, &sequence)) != 0)
			return (err);
		found = copy_zone(t->file, id, zone);
	} while (!read_settled(t, sequence));
	return (found);
}

int
table_statuses(table_t *t, const char *root, zone_status_t *status)
{
	unsigned int sequence;
	int err;

	do {
		if ((err = read_begin(t, root, &sequence)) != 0)
			return (err);
		memcpy(status, t->file->head.status, sizeof (t->file->head.status));
	} while (!read_settled(t, sequence));
	return (0);
}
