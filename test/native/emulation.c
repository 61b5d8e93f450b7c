/*
 * The emulation and the addon's queue from a C program: `emulation SCENARIO ROOT`. Prints `ok`, or for
 * `bench` milliseconds; whatever is wrong aborts. Run by emulation.test.ts.
 */
#define	_GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "emul/emul.h"
#include "emul/illumos.h"
#include "zone_events.h"

static const char *root;

static void
configure(int count)
{
	char *lines = calloc((size_t)count, 128);
	int i, used = 0;

	assert(lines != NULL);
	for (i = 0; i < count; i++) {
		used += sprintf(lines + used, "zone-%d:installed:/zones/zone-%d:uuid-%d:joyent\n",
		    i, i, i);
	}
	assert(emul_zones_configure(root, lines) == 0);
	free(lines);
}

static double
now_ms(void)
{
	struct timespec ts;

	assert(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
	return ((double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6);
}

static void
bench(void)
{
	char name[64], path[MAXPATHLEN], brand[64];
	zone_state_t state;
	int32_t id;
	double start;
	int i;

	configure(4096);
	for (i = 0; i < 4096; i++) {
		(void) sprintf(name, "zone-%d", i);
		assert(emul_zone_status(root, name, ZONE_IS_INITIALIZED, 0, &id) == 0);
		assert(emul_zone_status(root, name, ZONE_IS_RUNNING, 1, &id) == 0);
	}
	start = now_ms();
	for (i = 0; i < 4096; i++) {
		(void) sprintf(name, "zone-%d", i);
		assert(zone_get_state(name, &state) == Z_OK && state == ZONE_STATE_RUNNING);
		assert(zone_get_brand(name, brand, sizeof (brand)) == Z_OK);
		assert(zone_get_zonepath(name, path, sizeof (path)) == Z_OK);
		assert(getzoneidbyname(name) > 0);
	}
	(void) printf("%.1f\n", now_ms() - start);
}

/* A zone's life, the walk of the index, and what buffers that are too small get. */
static void
zones(void)
{
	char name[] = "zone-1", nobody[] = "nobody", global[] = "global";
	char path[MAXPATHLEN], small[4], *entry;
	zoneid_t ids[8];
	zone_state_t state;
	unsigned int count;
	int32_t id, status;
	uint64_t uniqid;
	int walked = 0;
	FILE *cookie;

	configure(3);
	assert(emul_zone_configure(root, "zone-1", "lx", "/zones/x", "u") == -EEXIST);
	assert(emul_zone_configure(root, "zone-9", "lx", "/zones/zone-9", "u") == 0);
	assert(emul_zone_index_state(root, "zone-9", 2) == 0);
	assert((cookie = setzoneent()) != NULL);
	while ((entry = getzoneent(cookie)) != NULL) {
		walked++;
		free(entry);
	}
	endzoneent(cookie);
	assert(walked == 5);

	assert(emul_zone_status(root, name, ZONE_IS_READY, 0, &id) == -ESRCH);
	assert(emul_zone_status(root, name, ZONE_IS_INITIALIZED, 0, &id) == 0 && id == 1);
	assert(emul_zone_status(root, name, ZONE_IS_RUNNING, 77, &id) == 0);
	assert(zone_getattr(id, ZONE_ATTR_STATUS, &status, sizeof (status)) == sizeof (status));
	assert(status == ZONE_IS_RUNNING);
	assert(zone_getattr(id, ZONE_ATTR_UNIQID, &uniqid, sizeof (uniqid)) == sizeof (uniqid));
	assert(zone_getattr(id, ZONE_ATTR_ROOT, path, sizeof (path)) == 19);
	assert(strcmp(path, "/zones/zone-1/root") == 0);
	/* What fits is copied, what there is is told. */
	assert(zone_getattr(id, ZONE_ATTR_NAME, small, sizeof (small)) == 7);
	assert(memcmp(small, "zone", 4) == 0);
	assert(getzonenamebyid(id, path, sizeof (path)) == 7 && strcmp(path, name) == 0);
	assert(zone_getattr(id, 9999, path, sizeof (path)) == -1 && errno == EINVAL);

	count = 1;
	assert(zone_list(ids, &count) == 0 && count == 2 && ids[0] == 0);
	count = 8;
	assert(zone_list(ids, &count) == 0 && count == 2 && ids[1] == id);

	assert(zone_get_state(nobody, &state) == Z_NO_ZONE);
	assert(zone_get_state(global, &state) == Z_OK && state == ZONE_STATE_RUNNING);
	assert(zone_get_zonepath(name, small, sizeof (small)) == Z_INVAL);
	assert(zone_get_zonepath(global, path, sizeof (path)) == Z_OK && strcmp(path, "/") == 0);
	assert(strcmp(zone_state_str(ZONE_STATE_INSTALLED), "installed") == 0);
	assert(strcmp(zonecfg_strerror(Z_NO_ZONE), "No such zone configured") == 0);

	assert(emul_zone_delete(root, name) == -EBUSY);
	assert(emul_zone_status(root, name, ZONE_IS_FREE, 0, &id) == 0 && id == 1);
	assert(emul_zone_delete(root, name) == 0);
	assert(zone_get_state(name, &state) == Z_NO_ZONE);
}

static atomic_int woken;

static void
wake(void *arg)
{
	(void) arg;
	(void) atomic_fetch_add(&woken, 1);
}

/* The next item, waiting for it. */
static zone_item_t
next(zone_events_t *ze)
{
	zone_item_t item;
	int tries;

	for (tries = 0; tries < 5000; tries++) {
		if (zone_events_next(ze, &item) == 1)
			return (item);
		(void) poll(NULL, 0, 1);
	}
	assert(!"an item came");
	return (item);
}

static void
publish(int from, int to)
{
	char event[64];
	int n;

	for (n = from; n <= to; n++) {
		(void) snprintf(event, sizeof (event), "zone-1:1:running:ready:%d\n", n);
		assert(emul_publish(root, event) == 0);
	}
}

static int
result_of(zone_events_t *ze, zone_command_t command)
{
	zone_item_t item;

	assert(zone_events_post(ze, command, &woken) == 0);
	item = next(ze);
	assert(item.kind == ZONE_ITEM_RESULT && item.command == command && item.token == &woken);
	return (item.result);
}

static void
events(void)
{
	zone_events_t *ze;
	zone_item_t item;
	int n;

	assert(zone_events_open(wake, NULL, 10, &ze) == 0);
	publish(1, 3);
	for (n = 1; n <= 3; n++) {
		item = next(ze);
		assert(item.kind == ZONE_ITEM_EVENT && item.when == n);
		assert(strcmp(item.zonename, "zone-1") == 0 && item.zoneid == 1);
		assert(strcmp(item.newstate, "running") == 0 && strcmp(item.oldstate, "ready") == 0);
	}
	/* The bound: what is over it is counted, and told in its place. */
	publish(1, 15);
	(void) poll(NULL, 0, 100);
	for (n = 1; n <= 10; n++)
		assert(next(ze).when == n);
	item = next(ze);
	assert(item.kind == ZONE_ITEM_LOST && item.lost == 5);

	assert(result_of(ze, ZONE_COMMAND_EXIT) == -EINVAL);
	assert(result_of(ze, ZONE_COMMAND_ENTER) == 0);
	assert(result_of(ze, ZONE_COMMAND_ENTER) == -EALREADY);
	assert(result_of(ze, ZONE_COMMAND_EXIT) == 0);
	assert(result_of(ze, ZONE_COMMAND_ENTER) == 0);
	publish(1, 2);
	assert(result_of(ze, ZONE_COMMAND_EXIT) == 1);
	assert(result_of(ze, ZONE_COMMAND_EXIT) == 0);
	assert(result_of(ze, ZONE_COMMAND_ABORT) == 0);
	assert(result_of(ze, ZONE_COMMAND_ENTER) == 0);
	assert(result_of(ze, ZONE_COMMAND_CLOSE) == 0);
	assert(zone_events_post(ze, ZONE_COMMAND_ENTER, NULL) == -ESHUTDOWN);
	zone_events_free(ze);

	/* The end of a process: in the section, with events and results that nobody took. */
	for (n = 0; n < 20; n++) {
		assert(zone_events_open(wake, NULL, 10, &ze) == 0);
		assert(zone_events_post(ze, ZONE_COMMAND_ENTER, NULL) == 0);
		if (n % 2 == 0)
			assert(zone_events_post(ze, ZONE_COMMAND_EXIT, NULL) == 0);
		publish(1, 3);
		assert(zone_events_shutdown(ze, 5000) == 0);
		zone_events_free(ze);
	}
}

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
static void
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
static void
dead_writer(void)
{
	char path[4096];
	unsigned int *sequence;
	int32_t id;
	int fd;

	configure(2);
	assert(emul_zone_status(root, "zone-0", ZONE_IS_INITIALIZED, 0, &id) == 0);
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
	assert(getzoneidbyname("zone-0") == 1 && getzoneidbyname("zone-1") == id);
	(void) munmap(sequence, 4096);
}

int
main(int argc, char **argv)
{
	assert(argc == 3);
	root = argv[2];
	zonecfg_set_root(root);
	assert(emul_node_boot(root) == 0);
	if (strcmp(argv[1], "bench") == 0) {
		bench();
		return (0);
	}
	if (strcmp(argv[1], "zones") == 0)
		zones();
	else if (strcmp(argv[1], "events") == 0)
		events();
	else if (strcmp(argv[1], "threads") == 0)
		threads();
	else if (strcmp(argv[1], "dead-writer") == 0)
		dead_writer();
	else
		assert(!"a scenario");
	(void) printf("ok\n");
	return (0);
}
