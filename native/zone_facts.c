/*
 * See zone_facts.h.
 */
#include "feature_macros.h"

#include "zone_facts.h"

#include <errno.h>
#include <stdlib.h>

/* Most nodes have fewer. */
#define	FIRST_ROOM	256
/* Zones that come between two calls. */
#define	SPARE_ROOM	16

/* Zones that come while we ask make the list grow; the kernel says how many there are. */
static int
list_ids(zoneid_t **ids, uint_t *count)
{
	uint_t room = FIRST_ROOM;

	for (;;) {
		if ((*ids = calloc(room, sizeof (**ids))) == NULL)
			return (-ENOMEM);
		*count = room;
		if (zone_list(*ids, count) != 0) {
			int err = -errno;

			free(*ids);
			return (err);
		}
		if (*count <= room)
			return (0);
		free(*ids);
		room = *count + SPARE_ROOM;
	}
}

int
zone_facts_live(live_zone_t **zones, size_t *count)
{
	zoneid_t *ids;
	uint_t listed, i;
	int err = list_ids(&ids, &listed);

	if (err != 0)
		return (err);
	*count = 0;
	*zones = calloc(listed + 1, sizeof (**zones));
	for (i = 0; *zones != NULL && i < listed; i++) {
		live_zone_t *zone = *zones + *count;

		zone->id = ids[i];
		/* One that went away meanwhile is no error. */
		if (zone_getattr(ids[i], ZONE_ATTR_NAME, zone->name, sizeof (zone->name)) > 0 &&
		    zone_getattr(ids[i], ZONE_ATTR_STATUS, &zone->status, sizeof (zone->status)) > 0)
			(*count)++;
	}
	free(ids);
	return (*zones == NULL ? -ENOMEM : 0);
}
