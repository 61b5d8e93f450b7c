/*
 * The kernel's table, mapped, changed, and read as copies. Writers hold the node's lock (flock), so there is
 * one at a time on the machine; the owner of a table_t serialises the threads of this process.
 *
 * The sequence number is odd while somebody writes: readers take no lock, and copy again where somebody
 * wrote meanwhile. A writer that was killed in the middle leaves it odd for ever: whoever has waited too
 * long takes the lock, which the dead do not hold, and repairs.
 */
#define	_GNU_SOURCE
#include "table.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "name_hash.h"
#include "store.h"

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

/* A writer is done in microseconds; so many yields are milliseconds. */
#define	READ_ATTEMPTS	1000

static uint32_t
table_bucket(const char *name)
{
	return (name_hash(name) % TABLE_BUCKETS);
}

static int
table_known(zone_status_t status)
{
	return (status != ZONE_IS_UNINITIALIZED);
}

void
table_fini(table_t *t)
{
	if (t->file != NULL)
		(void) munmap(t->file, sizeof (table_file_t));
	t->file = NULL;
}

int
table_open(table_t *t, const char *root)
{
	char path[STORE_PATH_BYTES];
	struct stat st;
	void *file;
	int err = store_path(path, root, STORE_TABLE);
	int fd;

	if (err != 0)
		return (err);
	if (stat(path, &st) != 0)
		return (-errno);
	if (t->file != NULL && t->dev == st.st_dev && t->ino == st.st_ino)
		return (0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return (-errno);
	if (fstat(fd, &st) != 0) {
		err = -errno;
		(void) close(fd);
		return (err);
	}
	if (st.st_size != sizeof (table_file_t)) {
		(void) close(fd);
		return (-EINVAL);
	}
	file = mmap(NULL, sizeof (table_file_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	err = file == MAP_FAILED ? -errno : 0;
	(void) close(fd);
	if (err != 0)
		return (err);
	table_fini(t);
	t->file = file;
	t->dev = st.st_dev;
	t->ino = st.st_ino;
	return (0);
}

/* A store into a hole of a full disk is a SIGBUS; a refusal here is an error. */
static int
reserve(const char *root, size_t offset, size_t len)
{
	int fd = store_open(root, STORE_TABLE, O_RDWR);
	int err;

	if (fd < 0)
		return (fd);
	err = -posix_fallocate(fd, (off_t)offset, (off_t)len);
	(void) close(fd);
	return (err);
}

int
table_create(const char *root)
{
	int fd = store_open(root, STORE_TABLE, O_RDWR | O_CREAT);
	int err = 0;

	if (fd < 0)
		return (fd);
	if (ftruncate(fd, sizeof (table_file_t)) != 0)
		err = -errno;
	(void) close(fd);
	return (err == 0 ? reserve(root, 0, sizeof (struct table_head)) : err);
}

/* Makes the hash anew from the statuses, which change by one store each. */
static void
rehash(table_file_t *file)
{
	int32_t *bucket;
	int32_t id;

	memset(file->head.buckets, 0, sizeof (file->head.buckets));
	for (id = MIN_USERZONEID; id <= MAX_ZONEID; id++) {
		if (!table_known(file->head.status[id]))
			continue;
		file->zones[id].name[ZONENAME_MAX - 1] = '\0';
		bucket = &file->head.buckets[table_bucket(file->zones[id].name)];
		file->zones[id].next = *bucket;
		*bucket = id;
	}
}

static void
write_begin(table_t *t)
{
	assert(atomic_load(&t->file->head.sequence) % 2 == 0);
	atomic_fetch_add(&t->file->head.sequence, 1);
	atomic_thread_fence(memory_order_seq_cst);
}

static void
write_end(table_t *t)
{
	atomic_thread_fence(memory_order_seq_cst);
	atomic_fetch_add(&t->file->head.sequence, 1);
}

void
table_repair(table_t *t)
{
	/* As the lock is ours, nobody else writes: whoever did is dead. */
	if (atomic_load(&t->file->head.sequence) % 2 != 0) {
		rehash(t->file);
		write_end(t);
	}
}

void
table_clear(table_t *t)
{
	write_begin(t);
	memset(t->file->head.status, 0, sizeof (t->file->head.status));
	memset(t->file->head.buckets, 0, sizeof (t->file->head.buckets));
	t->file->head.last_id = GLOBAL_ZONEID;
	write_end(t);
}

int
table_add(table_t *t, const char *root, zone_record_t *zone)
{
	struct table_head *head = &t->file->head;
	int32_t id = head->last_id;
	int32_t attempts;
	int32_t *bucket;
	int err;

	for (attempts = 0; attempts < MAX_ZONEID; attempts++) {
		id = id >= MAX_ZONEID ? MIN_USERZONEID : id + 1;
		if (!table_known(head->status[id]))
			break;
	}
	if (attempts == MAX_ZONEID)
		return (-EAGAIN);
	err = reserve(root, (size_t)((char *)&t->file->zones[id] - (char *)t->file),
	    sizeof (zone_record_t));
	if (err != 0)
		return (err);
	write_begin(t);
	zone->id = head->last_id = id;
	zone->uniqid = ++head->last_uniqid;
	bucket = &head->buckets[table_bucket(zone->name)];
	zone->next = *bucket;
	t->file->zones[id] = *zone;
	head->status[id] = zone->status;
	*bucket = id;
	write_end(t);
	return (0);
}

void
table_update(table_t *t, zoneid_t id, zone_status_t status, int32_t initpid)
{
	write_begin(t);
	t->file->zones[id].initpid = initpid;
	t->file->head.status[id] = status;
	write_end(t);
}

void
table_remove(table_t *t, zoneid_t id)
{
	int32_t *link = &t->file->head.buckets[table_bucket(t->file->zones[id].name)];
	int steps = TABLE_IDS;

	write_begin(t);
	t->file->head.status[id] = ZONE_IS_UNINITIALIZED;
	while (*link != 0 && *link != id && steps-- > 0)
		link = &t->file->zones[*link].next;
	if (*link == id)
		*link = t->file->zones[id].next;
	write_end(t);
}

static int
read_begin(table_t *t, const char *root, unsigned int *sequence)
{
	int attempts;
	int lock;

	for (attempts = 0; attempts < READ_ATTEMPTS; attempts++) {
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

/* True when nobody wrote since read_begin: the copy is one snapshot. */
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
	/* What changes under the reader may have a loop in it. */
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
table_zone(table_t *t, const char *root, const char *name, zoneid_t id, zone_record_t *zone)
{
	unsigned int sequence;
	int found;
	int err;

	do {
		if ((err = read_begin(t, root, &sequence)) != 0)
			return (err);
		found = copy_zone(t->file, name == NULL ? id : find(t->file, name), zone);
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
