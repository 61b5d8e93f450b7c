/*
 * The configured zones as simcn's own calls need them: the lines of /etc/zones/index, parsed and hashed.
 * What the platform's calls answer (zonecfg.c) is read from the file, line by line, as libzonecfg does.
 */
#ifndef ZINDEX_H
#define	ZINDEX_H

#include <stddef.h>
#include <stdint.h>

#include "illumos.h"
#include "store.h"

typedef struct zindex_zone {
	/* All three point into the index's text and are NUL-ended. */
	const char *name;
	const char *zonepath;
	/* What stands behind the zonepath: uuid, brand, IP type, debug ID. */
	const char *tail;
	zone_state_t state;
	/* Where its line lies in the file. */
	size_t offset;
	size_t length;
	int32_t next;
} zindex_zone_t;

typedef struct zindex {
	store_id_t id;
	char *text;
	zindex_zone_t *zones;
	uint32_t count;
	uint32_t duplicates;
	int32_t *buckets;
	uint32_t nbuckets;
} zindex_t;

/* Brings the parsed index up to the file: one stat when nothing changed. */
int zindex_refresh(zindex_t *ix, const char *root);
void zindex_fini(zindex_t *ix);

/* NULL where no such zone is configured. Good until the next refresh. */
zindex_zone_t *zindex_find(zindex_t *ix, const char *name);

/* An index of its own, of a text that it takes over, and that zindex_fini frees. */
int zindex_parse(zindex_t *ix, char *text);

/* The three below (zindex_change.c) are for the holder of the node's lock, on a fresh index. */
int zindex_add(zindex_t *ix, const char *root, const char *lines);
int zindex_set_state(zindex_t *ix, const char *root, const char *name, zone_state_t state);
int zindex_remove(zindex_t *ix, const char *root, const char *name);

/* "configured" ... as the index and events write it, NULL above `mounted`; and back, -EINVAL for others. */
const char *zindex_state_name(zone_state_t state);
int zindex_state_of(const char *name, zone_state_t *state);

#endif
