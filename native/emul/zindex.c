/*
 * The index of configured zones, cached by the file's identity: simcn's own calls cost a stat, not a parse. The owner serialises all calls on one zindex_t.
 */
#define	_GNU_SOURCE
#include "zindex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "name_hash.h"

static const char *const STATE_NAMES[] = {
	"configured", "incomplete", "installed", "ready", "running", "shutting_down", "down", "mounted",
};
#define	STATE_COUNT	(sizeof (STATE_NAMES) / sizeof (STATE_NAMES[0]))

const char *
zindex_state_name(zone_state_t state)
{
	return (state < STATE_COUNT ? STATE_NAMES[state] : NULL);
}

int
zindex_state_of(const char *name, zone_state_t *state)
{
	zone_state_t i;

	for (i = 0; i < STATE_COUNT; i++) {
		if (strcmp(STATE_NAMES[i], name) == 0) {
			*state = i;
			return (0);
		}
	}
	return (-EINVAL);
}

void
zindex_fini(zindex_t *ix)
{
	free(ix->text);
	free(ix->zones);
	free(ix->buckets);
	memset(ix, 0, sizeof (*ix));
}

/*
 * Cuts one line, without its newline, in place. 0: a zone. -EINVAL: a comment, an empty line, or one
 * that the platform would not read either.
 */
static int
parse_line(char *line, size_t offset, zindex_zone_t *zone)
{
	char *rest = line, *state;

	memset(zone, 0, sizeof (*zone));
	zone->offset = offset;
	zone->length = strlen(line);
	zone->name = strsep(&rest, ":");
	state = strsep(&rest, ":");
	zone->zonepath = strsep(&rest, ":");
	zone->tail = rest == NULL ? "" : rest;
	if (*line == '#' || *line == '\0' || zone->zonepath == NULL)
		return (-EINVAL);
	return (zindex_state_of(state, &zone->state));
}

int
zindex_parse(zindex_t *ix, char *text)
{
	char *line, *rest = text;
	uint32_t lines = 1;
	uint32_t i;

	memset(ix, 0, sizeof (*ix));
	ix->text = text;
	for (line = text; (line = strchr(line, '\n')) != NULL; line++)
		lines++;
	for (ix->nbuckets = 64; ix->nbuckets < lines; ix->nbuckets *= 2)
		;
	ix->zones = calloc(lines, sizeof (zindex_zone_t));
	ix->buckets = malloc(ix->nbuckets * sizeof (int32_t));
	if (ix->zones == NULL || ix->buckets == NULL) {
		zindex_fini(ix);
		return (-ENOMEM);
	}
	for (i = 0; i < ix->nbuckets; i++)
		ix->buckets[i] = -1;
	while ((line = strsep(&rest, "\n")) != NULL) {
		zindex_zone_t *zone = &ix->zones[ix->count];
		int32_t *bucket;

		if (parse_line(line, (size_t)(line - text), zone) != 0)
			continue;
		if (zindex_find(ix, zone->name) != NULL) {
			ix->duplicates++;
			continue;
		}
		bucket = &ix->buckets[name_hash(zone->name) % ix->nbuckets];
		zone->next = *bucket;
		*bucket = (int32_t)ix->count++;
	}
	return (0);
}

int
zindex_refresh(zindex_t *ix, const char *root)
{
	char path[STORE_PATH_BYTES];
	store_id_t id, after;
	zindex_t fresh;
	char *text;
	size_t len;
	int err = store_path(path, root, STORE_INDEX);

	if (err != 0 || (err = store_identify(path, &id)) != 0)
		return (err);
	if (ix->text != NULL && store_same(&id, &ix->id))
		return (0);
	for (;;) {
		if ((err = store_read(path, &text, &len)) != 0)
			return (err);
		/* Replaced between the stat and the read: what was read belongs to neither surely. */
		if ((err = store_identify(path, &after)) != 0) {
			free(text);
			return (err);
		}
		if (store_same(&id, &after))
			break;
		free(text);
		id = after;
	}
	if ((err = zindex_parse(&fresh, text)) != 0)
		return (err);
	zindex_fini(ix);
	*ix = fresh;
	ix->id = id;
	return (0);
}

zindex_zone_t *
zindex_find(zindex_t *ix, const char *name)
{
	int32_t i;

	for (i = ix->buckets[name_hash(name) % ix->nbuckets]; i >= 0; i = ix->zones[i].next) {
		if (strcmp(ix->zones[i].name, name) == 0)
			return (&ix->zones[i]);
	}
	return (NULL);
}
