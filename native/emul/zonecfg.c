/*
 * What libzonecfg says of zones, with the platform's signatures, results and costs: a zonepath, and the
 * state of a zone that the kernel does not know, is a walk of the index; a brand is two parses of the
 * zone's XML. Nothing is cached, and nothing written. Any thread may call.
 */
#define	_GNU_SOURCE
#include "illumos.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "emul.h"
#include "node.h"
#include "zone_xml.h"

/* What libzonecfg's own functions read at most of a line of the index. */
#define	INDEX_LINE_BYTES	2048

static atomic_ullong index_lines, documents;

void
emul_costs(emul_costs_t *costs)
{
	costs->index_lines = atomic_load(&index_lines);
	costs->documents = atomic_load(&documents);
}

/* A zone of the index, as far as these functions need it. */
typedef struct index_entry {
	char name[ZONENAME_MAX];
	char zonepath[MAXPATHLEN];
	zone_state_t state;
} index_entry_t;

/* The next field of a line; a path with a colon in it stands in quotes. "" behind the last one. */
static char *
next_field(char **rest)
{
	char *field = *rest;
	char *end;

	if (field == NULL)
		return ("");
	if (*field == '"') {
		field++;
		end = field + strcspn(field, "\"");
		if (*end != '\0')
			*end++ = '\0';
		end += strcspn(end, ":");
	} else {
		end = field + strcspn(field, ":");
	}
	*rest = *end == '\0' ? NULL : end + 1;
	*end = '\0';
	return (field);
}

/* 0 at the end. As getzoneent_private (libzonecfg, getzoneent.c), a line that is none is passed over. */
static int
next_entry(FILE *index, index_entry_t *entry)
{
	char line[INDEX_LINE_BYTES];
	char *rest, *name, *state, *zonepath;

	while (fgets(line, sizeof (line), index) != NULL) {
		(void) atomic_fetch_add(&index_lines, 1);
		rest = line;
		rest[strcspn(rest, "\r\n")] = '\0';
		if (*rest == '#')
			continue;
		name = next_field(&rest);
		state = next_field(&rest);
		zonepath = next_field(&rest);
		if (*name == '\0' || strlen(name) >= sizeof (entry->name) ||
		    strlen(zonepath) >= sizeof (entry->zonepath) ||
		    zindex_state_of(state, &entry->state) != 0 ||
		    entry->state > ZONE_STATE_INSTALLED)
			continue;
		(void) strcpy(entry->name, name);
		(void) strcpy(entry->zonepath, zonepath);
		return (1);
	}
	return (0);
}

/*
 * Walks the index line by line up to the zone, at each call, as libzonecfg does: whoever asks zone by
 * zone pays for the square of their number, here as on the platform.
 */
static int
find_entry(const char *name, index_entry_t *entry)
{
	char root[STORE_PATH_BYTES], path[STORE_PATH_BYTES];
	int code = Z_NO_ZONE;
	FILE *index;

	node_current_root(root);
	if (store_path(path, root, STORE_INDEX) != 0)
		return (Z_NO_ZONE);
	if ((index = fopen(path, "re")) == NULL)
		return (errno == EACCES ? Z_ACCES : Z_NO_ZONE);
	while (code != Z_OK && next_entry(index, entry)) {
		if (strcmp(entry->name, name) == 0)
			code = Z_OK;
	}
	(void) fclose(index);
	return (code);
}

/* kernel_state_to_user_state (libzonecfg.c). */
static zone_state_t
state_of_status(zone_status_t status)
{
	switch (status) {
	case ZONE_IS_UNINITIALIZED:
	case ZONE_IS_INITIALIZED:
	case ZONE_IS_READY:
		return (ZONE_STATE_READY);
	case ZONE_IS_BOOTING:
	case ZONE_IS_RUNNING:
		return (ZONE_STATE_RUNNING);
	case ZONE_IS_SHUTTING_DOWN:
	case ZONE_IS_EMPTY:
		return (ZONE_STATE_SHUTTING_DOWN);
	default:
		return (ZONE_STATE_DOWN);
	}
}

int
zone_get_state(char *name, zone_state_t *state)
{
	index_entry_t entry;
	zone_status_t status;
	zoneid_t id;
	int code;

	if (name == NULL || state == NULL)
		return (Z_INVAL);
	/* The kernel knows better than the index, for as long as it knows the zone at all. */
	id = getzoneidbyname(name);
	if (id != -1 && zone_getattr(id, ZONE_ATTR_STATUS, &status, sizeof (status)) >= 0) {
		*state = state_of_status(status);
		return (Z_OK);
	}
	if ((code = find_entry(name, &entry)) == Z_OK)
		*state = entry.state;
	return (code);
}

static int
zone_path(char *name, const char *tail, char *buf, size_t len)
{
	index_entry_t entry = { .zonepath = "/" };
	int code = Z_OK;
	int n;

	if (name == NULL || buf == NULL)
		return (Z_INVAL);
	if (strcmp(name, GLOBAL_ZONENAME) == 0)
		tail = "";
	else
		code = find_entry(name, &entry);
	if (code != Z_OK)
		return (code);
	n = snprintf(buf, len, "%s%s", entry.zonepath, tail);
	return (n < 0 || (size_t)n >= len ? Z_INVAL : Z_OK);
}

int
zone_get_zonepath(char *name, char *buf, size_t len)
{
	return (zone_path(name, "", buf, len));
}

int
zone_get_rootpath(char *name, char *buf, size_t len)
{
	return (zone_path(name, "/root", buf, len));
}

/* libzonecfg parses the zone's document, and validates it, which goes through all of it once more. */
int
zone_get_brand(char *name, char *buf, size_t len)
{
	char root[STORE_PATH_BYTES];
	char brand[BRAND_MAX] = NATIVE_BRAND_NAME;
	int err = 0;
	int pass, n;

	if (name == NULL || buf == NULL)
		return (Z_INVAL);
	node_current_root(root);
	for (pass = 0; pass < 2 && err == 0 && strcmp(name, GLOBAL_ZONENAME) != 0; pass++) {
		(void) atomic_fetch_add(&documents, 1);
		err = zone_xml_brand(root, name, brand);
	}
	switch (err) {
	case 0:
		n = snprintf(buf, len, "%s", brand);
		return (n < 0 || (size_t)n >= len ? Z_INVAL : Z_OK);
	case -ENOENT:
		return (Z_NO_ZONE);
	case -ENOMEM:
		return (Z_NOMEM);
	default:
		/* zonecfg_get_handle_impl: a document that is there but cannot be parsed. */
		return (Z_INVALID_DOCUMENT);
	}
}
