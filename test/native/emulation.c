/*
 * The emulation and the addon's queue from a C program: `emulation SCENARIO ROOT`. Prints `ok`, or for
 * `costs-N` counts; whatever is wrong aborts. Run by emulation.test.ts.
 */
#define	_GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emul/emul.h"
#include "emul/illumos.h"
#include "emulation.h"

const char *root;

void
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

/* Lines of the index read and documents parsed by one lookup of the last of `count` zones. */
static void
costs(int count)
{
	emul_costs_t before, after;
	char name[64], path[MAXPATHLEN], brand[64];
	zone_state_t state;
	int32_t id;

	configure(count);
	(void) sprintf(name, "zone-%d", count - 1);
	emul_costs(&before);
	assert(zone_get_state(name, &state) == Z_OK && state == ZONE_STATE_INSTALLED);
	emul_costs(&after);
	(void) printf("%llu ", (unsigned long long)(after.index_lines - before.index_lines));
	assert(zone_get_zonepath(name, path, sizeof (path)) == Z_OK);
	emul_costs(&before);
	(void) printf("%llu ", (unsigned long long)(before.index_lines - after.index_lines));
	assert(zone_get_brand(name, brand, sizeof (brand)) == Z_OK && strcmp(brand, "joyent") == 0);
	emul_costs(&after);
	(void) printf("%llu ", (unsigned long long)(after.documents - before.documents));
	/* Of a zone that the kernel knows it knows the state. */
	assert(emul_zone_status(root, name, ZONE_IS_INITIALIZED, 0, &id) == 0);
	assert(emul_zone_status(root, name, ZONE_IS_RUNNING, 1, &id) == 0);
	assert(zone_get_state(name, &state) == Z_OK && state == ZONE_STATE_RUNNING);
	emul_costs(&before);
	(void) printf("%llu\n", (unsigned long long)(before.index_lines - after.index_lines));
}

/* A zone's life, the walk of the index, and what buffers that are too small get. */
static void
zones(void)
{
	char name[] = "zone-1", nobody[] = "nobody", global[] = "global";
	char path[MAXPATHLEN], small[4];
	zoneid_t ids[8];
	zone_state_t state;
	unsigned int count;
	int32_t id, status;
	uint64_t uniqid;

	configure(3);
	assert(emul_zones_configure(root, "zone-1:configured:/zones/x:u:lx\n") == -EEXIST);
	assert(emul_zones_configure(root, "zone-9:configured:/zones/zone-9:u:lx\n") == 0);
	assert(emul_zone_index_state(root, "zone-9", 2) == 0);
	assert(emul_zone_status(root, name, ZONE_IS_READY, 0, &id) == -ESRCH);
	assert(emul_zone_status(root, name, ZONE_IS_INITIALIZED, 0, &id) == 0 && id == 1);
	assert(emul_zone_status(root, name, ZONE_IS_RUNNING, 77, &id) == 0);
	assert(zone_getattr(id, ZONE_ATTR_STATUS, &status, sizeof (status)) == sizeof (status));
	assert(status == ZONE_IS_RUNNING);
	assert(zone_getattr(id, ZONE_ATTR_UNIQID, &uniqid, sizeof (uniqid)) == sizeof (uniqid));
	assert(zone_getattr(id, ZONE_ATTR_ROOT, path, sizeof (path)) == 19);
	assert(strcmp(path, "/zones/zone-1/root") == 0);
	/* Copies what fits, reports how many there are. */
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

	assert(emul_zone_delete(root, name) == -EBUSY);
	assert(emul_zone_status(root, name, ZONE_IS_UNINITIALIZED, 0, &id) == 0 && id == 1);
	assert(zone_get_state(name, &state) == Z_OK && state == ZONE_STATE_RUNNING);
	assert(emul_zone_status(root, name, ZONE_IS_FREE, 0, &id) == 0 && id == 1);
	assert(emul_zone_delete(root, name) == 0);
	assert(zone_get_state(name, &state) == Z_NO_ZONE);
}

int
main(int argc, char **argv)
{
	assert(argc == 3);
	root = argv[2];
	zonecfg_set_root(root);
	assert(emul_node_boot(root) == 0);
	if (strncmp(argv[1], "costs-", 6) == 0) {
		costs((int)strtol(argv[1] + 6, NULL, 10));
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
