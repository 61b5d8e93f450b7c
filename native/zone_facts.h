/*
 * What the kernel knows of all zones, in one trip: two calls a zone by ffi cost more than the kernel
 * itself, which shows at the start of a node with thousands of zones.
 */
#ifndef ZONE_FACTS_H
#define	ZONE_FACTS_H

#include <stddef.h>

#include "zone_ids.h"

typedef struct live_zone {
	char name[ZONENAME_MAX];
	/* Another at each boot: zone_create (uts/common/os/zone.c) takes id_alloc's, the next free one (id_space.c). */
	zoneid_t id;
	/* zone_status_t of the kernel */
	int status;
} live_zone_t;

/*
 * All zones that zone_list names and that have a status still, the global one included. 0, and the caller
 * frees *zones; or -errno. Does not block. Main thread only where the emulation is: it keeps the root that
 * it works on for the whole process.
 *
 * zone_list (uts/common/os/zone.c) goes through zone_active, where a zone is from zone_create on;
 * zone_getattr refuses one below ZONE_IS_INITIALIZED, so such a one is left out here.
 */
int zone_facts_live(live_zone_t **zones, size_t *count);

#endif
