/*
 * What the kernel says of zones, through libc, with the platform's signatures and results. Reading only:
 * each call costs a stat of the node's table, whatever the number of zones. Any thread may call.
 */
#define	_GNU_SOURCE
#include "illumos.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"

static void
global_record(zone_record_t *zone)
{
	memset(zone, 0, sizeof (*zone));
	(void) strcpy(zone->name, GLOBAL_ZONENAME);
	(void) strcpy(zone->brand, NATIVE_BRAND_NAME);
	(void) strcpy(zone->rootpath, "/");
	zone->status = ZONE_IS_RUNNING;
	zone->initpid = 1;
}

/* By its name, or by its id where that is NULL. */
static int
read_record(const char *name, zoneid_t id, zone_record_t *zone)
{
	node_t *node;
	int err;

	if (name == NULL ? id == GLOBAL_ZONEID : strcmp(name, GLOBAL_ZONENAME) == 0) {
		global_record(zone);
		return (0);
	}
	if ((node = node_enter_current()) == NULL)
		return (-ENOMEM);
	if ((err = table_open(&node->table, node->root)) == 0)
		err = table_zone(&node->table, node->root, name, id, zone);
	node_leave(node);
	return (err);
}

/* zone_lookup (uts/common/os/zone.c): a zone has a name for others from ready on, until zone_destroy is done. */
zoneid_t
getzoneidbyname(const char *name)
{
	zone_record_t zone;

	if (name == NULL)
		return (GLOBAL_ZONEID);
	if (read_record(name, 0, &zone) != 0 || zone.status < ZONE_IS_READY ||
	    zone.status > ZONE_IS_DEAD) {
		errno = EINVAL;
		return (-1);
	}
	return (zone.id);
}

/* The platform's rule for strings: what fits is copied, what there is is returned. */
static ssize_t
copy_out(void *buf, size_t len, const void *value, size_t size)
{
	if (buf != NULL)
		memcpy(buf, value, size < len ? size : len);
	return ((ssize_t)size);
}

/*
 * A zone has the native brand until zoneadmd says another (zone.c, zone_create), and it says only what has a module for
 * the kernel (cmd/zoneadmd/vplat.c, vplat_create): of SmartOS' brands lx alone (lib/brand/<brand>/zone/config.xml,
 * <modname>).
 */
static int
has_kernel_module(const char *brand)
{
	return (strcmp(brand, "lx") == 0);
}

ssize_t
zone_getattr(zoneid_t id, int attr, void *buf, size_t len)
{
	zone_record_t zone;
	const char *brand;

	if (read_record(NULL, id, &zone) != 0) {
		errno = EINVAL;
		return (-1);
	}
	switch (attr) {
	case ZONE_ATTR_ROOT:
		return (copy_out(buf, len, zone.rootpath, strlen(zone.rootpath) + 1));
	case ZONE_ATTR_NAME:
		return (copy_out(buf, len, zone.name, strlen(zone.name) + 1));
	case ZONE_ATTR_STATUS:
		return (copy_out(buf, len, &zone.status, sizeof (zone.status)));
	case ZONE_ATTR_UNIQID:
		return (copy_out(buf, len, &zone.uniqid, sizeof (zone.uniqid)));
	case ZONE_ATTR_INITPID:
		return (copy_out(buf, len, &zone.initpid, sizeof (zone.initpid)));
	case ZONE_ATTR_BRAND:
		brand = has_kernel_module(zone.brand) ? zone.brand : NATIVE_BRAND_NAME;
		return (copy_out(buf, len, brand, strlen(brand) + 1));
	default:
		errno = EINVAL;
		return (-1);
	}
}

ssize_t
getzonenamebyid(zoneid_t id, char *buf, size_t len)
{
	return (zone_getattr(id, ZONE_ATTR_NAME, buf, len));
}

/*
 * zone_list (uts/common/os/zone.c) goes through zone_active and asks for no status: a zone is there from
 * zone_create, before it is ready, until zone_destroy is done: a dead one is there while anything but a credential refers
 * to it.
 */
int
zone_list(zoneid_t *ids, unsigned int *count)
{
	static const size_t BYTES = (MAX_ZONEID + 1) * sizeof (zone_status_t);
	zone_status_t *status;
	unsigned int room, found = 1;
	node_t *node;
	zoneid_t id;
	int err = 0;

	if (count == NULL || (status = malloc(BYTES)) == NULL) {
		errno = count == NULL ? EFAULT : ENOMEM;
		return (-1);
	}
	if ((node = node_enter_current()) == NULL) {
		free(status);
		errno = ENOMEM;
		return (-1);
	}
	if ((err = table_open(&node->table, node->root)) == 0)
		err = table_statuses(&node->table, node->root, status);
	node_leave(node);
	/* A node that was never booted has the global zone, as every kernel has. */
	if (err == -ENOENT)
		memset(status, 0, BYTES);
	else if (err != 0) {
		free(status);
		errno = -err;
		return (-1);
	}
	room = *count;
	if (room > 0 && ids != NULL)
		ids[0] = GLOBAL_ZONEID;
	for (id = MIN_USERZONEID; id <= MAX_ZONEID; id++) {
		if (status[id] < ZONE_IS_INITIALIZED || status[id] > ZONE_IS_DEAD)
			continue;
		if (found < room && ids != NULL)
			ids[found] = id;
		found++;
	}
	*count = found;
	free(status);
	return (0);
}
