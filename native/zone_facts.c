/*
 * See zone_facts.h.
 */
#include "zone_facts.h"

int
zone_facts(char *zonename, zone_facts_t *facts)
{
	int code;

	facts->call = ZONE_FACTS_BRAND;
	code = zone_get_brand(zonename, facts->brand, sizeof (facts->brand));
	if (code != 0)
		return (code);
	facts->call = ZONE_FACTS_ZONEPATH;
	code = zone_get_zonepath(zonename, facts->zonepath, sizeof (facts->zonepath));
	if (code != 0)
		return (code);
	facts->call = ZONE_FACTS_STATE;
	return (zone_get_state(zonename, &facts->state));
}
