/*
 * What libzonecfg knows of one zone, in one trip: three calls by ffi cost more than the library itself,
 * which tells at the start of a node with thousands of zones. (spec: illumos-abi)
 */
#ifndef ZONE_FACTS_H
#define	ZONE_FACTS_H

#ifdef __sun
#include <sys/types.h>
#include <sys/param.h>
/* The library exports these, but not every platform delivers their header. */
typedef uint_t zone_state_t;
extern int zone_get_state(char *name, zone_state_t *state);
extern int zone_get_brand(char *name, char *brand, size_t size);
extern int zone_get_zonepath(char *name, char *path, size_t size);
#else
#include "emul/illumos.h"
#endif

typedef enum zone_facts_call {
	ZONE_FACTS_BRAND,
	ZONE_FACTS_ZONEPATH,
	ZONE_FACTS_STATE
} zone_facts_call_t;

typedef struct zone_facts {
	char brand[MAXPATHLEN];
	char zonepath[MAXPATHLEN];
	zone_state_t state;
	/* The call that failed, where one did. */
	zone_facts_call_t call;
} zone_facts_t;

/*
 * 0 or the code of the call that failed (Z_NO_ZONE ...). Main thread only: the library keeps the root
 * that it works on for the whole process.
 */
int zone_facts(char *zonename, zone_facts_t *facts);

#endif
