/*
 * Readers and writers that meet on one node, in this process and in others.
 */
#define	_GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emul/emul.h"
#include "emul/illumos.h"
#include "emulation.h"

static atomic_int stopping;

static void *
read_zones(void *arg)
{
	char name[] = "zone-1", path[MAXPATHLEN], brand[64];
	zoneid_t ids[64];
	unsigned int count;
	zone_state_t state;

	(void) arg;
	while (!atomic_load(&stopping)) {
		assert(zone_get_state(name, &state) == Z_OK);
		assert(zone_get_brand(name, brand, sizeof (brand)) == Z_OK);
		assert(zone_get_zonepath(name, path, sizeof (path)) == Z_OK);
		count = 64;
		assert(zone_list(ids, &count) == 0 && count >= 1 && count <= 4);
		if (getzoneidbyname("zone-0") > 0 && count > 1)
			(void) zone_getattr(ids[1], ZONE_ATTR_NAME, path, sizeof (path));
	}
	return (NULL);
}

static void
change_zones(const char *name, int rounds)
{
	int32_t id;
	int i;

	for (i = 0; i < rounds; i++) {
		assert(emul_zone_status(root, name, ZONE_IS_INITIALIZED, 0, &id) == 0);
		assert(emul_zone_index_state(root, name, (uint32_t)i % 3) == 0);
		assert(emul_zone_status(root, name, ZONE_IS_RUNNING, 1, &id) == 0);
		assert(emul_zone_status(root, name, ZONE_IS_FREE, 0, &id) == 0);
	}
}

static void *
change_from_thread(void *arg)
{
	change_zones(arg, 300);
	return (NULL);
}

/* Readers and writers of this process, and a writer of another. */
void
threads(void)
{
	pthread_t reader[2], writer;
	pid_t pid;
	int status, i;

	configure(3);
	pid = fork();
	assert(pid >= 0);
	if (pid == 0) {
		change_zones("zone-2", 300);
		_exit(0);
	}
	for (i = 0; i < 2; i++)
		assert(pthread_create(&reader[i], NULL, read_zones, NULL) == 0);
	assert(pthread_create(&writer, NULL, change_from_thread, "zone-0") == 0);
	assert(pthread_join(writer, NULL) == 0);
	assert(waitpid(pid, &status, 0) == pid && status == 0);
	atomic_store(&stopping, 1);
	for (i = 0; i < 2; i++)
		assert(pthread_join(reader[i], NULL) == 0);
}

/* A writer that was killed in the middle of a change leaves the table's sequence odd. */
void
dead_writer(void)
{
	char path[4096];
	unsigned int *sequence;
	int32_t id;
	int fd;

	configure(2);
	assert(emul_zone_status(root, "zone-0", ZONE_IS_INITIALIZED, 0, &id) == 0);
	assert(emul_zone_status(root, "zone-0", ZONE_IS_READY, 0, &id) == 0);
	(void) snprintf(path, sizeof (path), "%s/system/simcn/zones", root);
	assert((fd = open(path, O_RDWR)) >= 0);
	sequence = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert(sequence != MAP_FAILED);
	(void) close(fd);

	/* A reader repairs it and goes on. */
	assert(*sequence % 2 == 0);
	(*sequence)++;
	assert(getzoneidbyname("zone-0") == id);
	assert(*sequence % 2 == 0);
	/* So does a writer, and the half-made hash is made anew. */
	(*sequence)++;
	(void) memset(sequence + 4, 0, 1024);
	assert(emul_zone_status(root, "zone-1", ZONE_IS_INITIALIZED, 0, &id) == 0);
	assert(emul_zone_status(root, "zone-1", ZONE_IS_READY, 0, &id) == 0);
	assert(getzoneidbyname("zone-0") == 1 && getzoneidbyname("zone-1") == id);
	(void) munmap(sequence, 4096);
}
