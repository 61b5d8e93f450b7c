/*
 * What libzonecfg tells of zones, with the platform's signatures and results. Reading only: each call
 * costs a stat or two of the node's files, whatever the number of zones. Any thread may call.
 */
#define	_GNU_SOURCE
#include "illumos.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"

/* Alone with the current node and a fresh index. Z_OK, and the caller leaves. */
static int
index_enter(node_t **node)
{
	int err;

	if ((*node = node_enter_current()) == NULL)
		return (Z_NOMEM);
	err = zindex_refresh(&(*node)->index, (*node)->root);
	if (err == 0)
		return (Z_OK);
	node_leave(*node);
	switch (err) {
	case -ENOENT:
		return (Z_NO_ZONE);
	case -EACCES:
		return (Z_ACCES);
	case -ENOMEM:
		return (Z_NOMEM);
	default:
		return (Z_SYSTEM);
	}
}

int
zone_get_state(char *name, zone_state_t *state)
{
	zone_record_t record;
	zindex_zone_t *zone;
	node_t *node;
	int code;

	if (name == NULL || state == NULL)
		return (Z_INVAL);
	/* The kernel knows better than the index, for as long as it knows the zone at all. */
	if (strcmp(name, GLOBAL_ZONENAME) == 0) {
		*state = ZONE_STATE_RUNNING;
		return (Z_OK);
	}
	if ((code = index_enter(&node)) != Z_OK)
		return (code);
	if (table_open(&node->table, node->root) == 0 &&
	    table_by_name(&node->table, node->root, name, &record) == 0) {
		switch (record.status) {
		case ZONE_IS_INITIALIZED:
		case ZONE_IS_READY:
		case ZONE_IS_BOOTING:
			*state = ZONE_STATE_READY;
			break;
		case ZONE_IS_RUNNING:
			*state = ZONE_STATE_RUNNING;
			break;
		case ZONE_IS_SHUTTING_DOWN:
		case ZONE_IS_EMPTY:
			*state = ZONE_STATE_SHUTTING_DOWN;
			break;
		default:
			*state = ZONE_STATE_DOWN;
			break;
		}
	} else if ((zone = zindex_find(&node->index, name)) != NULL) {
		*state = zone->state;
	} else {
		code = Z_NO_ZONE;
	}
	node_leave(node);
	return (code);
}

char *
zone_state_str(zone_state_t state)
{
	/* The platform's prototype has no const; its callers do not write either. */
	static char unknown[] = "unknown";
	const char *name = zindex_state_name(state);

	return (name == NULL ? unknown : (char *)(uintptr_t)name);
}

static int
zone_path(char *name, const char *tail, char *buf, size_t len)
{
	zindex_zone_t *zone;
	node_t *node;
	int code;
	int n;

	if (name == NULL || buf == NULL)
		return (Z_INVAL);
	if ((code = index_enter(&node)) != Z_OK)
		return (code);
	zone = zindex_find(&node->index, name);
	if (zone == NULL) {
		code = Z_NO_ZONE;
	} else {
		if (strcmp(name, GLOBAL_ZONENAME) == 0)
			tail = "";
		n = snprintf(buf, len, "%s%s", zone->zonepath, tail);
		code = n < 0 || (size_t)n >= len ? Z_INVAL : Z_OK;
	}
	node_leave(node);
	return (code);
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

int
zone_get_brand(char *name, char *buf, size_t len)
{
	char brand[BRAND_MAX] = NATIVE_BRAND_NAME;
	zindex_zone_t *zone;
	node_t *node;
	int code;
	int err = 0;
	int n;

	if (name == NULL || buf == NULL)
		return (Z_INVAL);
	if ((code = index_enter(&node)) != Z_OK)
		return (code);
	zone = zindex_find(&node->index, name);
	if (zone != NULL && strcmp(name, GLOBAL_ZONENAME) != 0 &&
	    (err = zone_xml_refresh(&zone->xml, node->root, name)) == 0)
		(void) strcpy(brand, zone->xml.brand);
	/* As libzonecfg: an XML that is there but cannot be read is not one that is not there. */
	if (zone == NULL || err == -ENOENT)
		code = Z_NO_ZONE;
	else if (err != 0)
		code = err == -ENOMEM ? Z_NOMEM : Z_INVALID_DOCUMENT;
	node_leave(node);
	if (code != Z_OK)
		return (code);
	n = snprintf(buf, len, "%s", brand);
	return (n < 0 || (size_t)n >= len ? Z_INVAL : Z_OK);
}

char *
zonecfg_strerror(int code)
{
	static char ok[] = "OK", nomem[] = "Not enough memory", inval[] = "Invalid argument";
	static char acces[] = "Permission denied", no_zone[] = "No such zone configured";
	static char state[] = "Invalid zone state", sys[] = "Operating system error";
	static char document[] = "Invalid document";
	static char unknown[] = "Unknown error";

	switch (code) {
	case Z_OK:
		return (ok);
	case Z_NOMEM:
		return (nomem);
	case Z_INVAL:
		return (inval);
	case Z_ACCES:
		return (acces);
	case Z_NO_ZONE:
		return (no_zone);
	case Z_BAD_ZONE_STATE:
		return (state);
	case Z_INVALID_DOCUMENT:
		return (document);
	case Z_SYSTEM:
		return (sys);
	default:
		return (unknown);
	}
}

FILE *
setzoneent(void)
{
	char root[STORE_PATH_BYTES], path[STORE_PATH_BYTES];

	node_current_root(root);
	if (store_path(path, root, STORE_INDEX) != 0)
		return (NULL);
	return (fopen(path, "re"));
}

char *
getzoneent(FILE *cookie)
{
	char *line = NULL;
	char *name = NULL;
	size_t room = 0;

	while (name == NULL && getline(&line, &room, cookie) > 0) {
		char *colon = strchr(line, ':');

		if (*line == '#' || colon == NULL || colon == line)
			continue;
		*colon = '\0';
		if ((name = strdup(line)) == NULL)
			break;
	}
	free(line);
	return (name);
}

void
endzoneent(FILE *cookie)
{
	if (cookie != NULL)
		(void) fclose(cookie);
}
