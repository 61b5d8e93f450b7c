/*
 * The index of configured zones, cached by the file's identity: with 4,096 zones each platform call
 * must cost a stat, not a parse. The owner serialises all calls on one zindex_t.
 */
#define	_GNU_SOURCE
#include "zindex.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store.h"

static const char *const STATE_NAMES[] = {
	"configured", "incomplete", "installed", "ready", "running", "shutting_down", "down", "mounted",
};
#define	STATE_COUNT	(sizeof (STATE_NAMES) / sizeof (STATE_NAMES[0]))

static const char EMPTY_INDEX[] =
	"# Zones of a simulated compute node: name:state:zonepath:uuid\n"
	"global:installed:/:\n";

const char *
zindex_state_name(zone_state_t state)
{
	return (state < STATE_COUNT ? STATE_NAMES[state] : NULL);
}

static int
state_by_name(const char *name, size_t len, zone_state_t *state)
{
	zone_state_t i;

	for (i = 0; i < STATE_COUNT; i++) {
		if (strlen(STATE_NAMES[i]) == len && memcmp(STATE_NAMES[i], name, len) == 0) {
			*state = i;
			return (0);
		}
	}
	return (-EINVAL);
}

static int
identify(const char *path, file_id_t *id)
{
	struct stat st;

	memset(id, 0, sizeof (*id));
	if (stat(path, &st) != 0)
		return (-errno);
	id->dev = st.st_dev;
	id->ino = st.st_ino;
	id->size = st.st_size;
	id->mtime = st.st_mtim;
	return (0);
}

static int
same_id(const file_id_t *a, const file_id_t *b)
{
	return (a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	    a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec);
}

/* FNV-1a: names are uuids, any mixing will do. */
static uint32_t
hash(const char *name)
{
	uint32_t h = 2166136261u;

	while (*name != '\0')
		h = (h ^ (unsigned char)*name++) * 16777619u;
	return (h);
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
	char *state, *path, *uuid;

	memset(zone, 0, sizeof (*zone));
	zone->offset = offset;
	zone->length = strlen(line);
	if (*line == '#' || (state = strchr(line, ':')) == NULL)
		return (-EINVAL);
	if ((path = strchr(state + 1, ':')) == NULL)
		return (-EINVAL);
	if (state_by_name(state + 1, (size_t)(path - state - 1), &zone->state) != 0)
		return (-EINVAL);
	uuid = strchr(path + 1, ':');
	*state = *path = '\0';
	if (uuid != NULL)
		*uuid = '\0';
	zone->name = line;
	zone->zonepath = path + 1;
	zone->uuid = uuid == NULL ? "" : uuid + 1;
	return (*line == '\0' ? -EINVAL : 0);
}

/* Takes `text` over. */
static int
parse(zindex_t *ix, char *text)
{
	char *line, *end;
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
	for (line = text; *line != '\0'; line = end) {
		zindex_zone_t *zone = &ix->zones[ix->count];

		end = strchr(line, '\n');
		if (end == NULL)
			end = line + strlen(line);
		else
			*end++ = '\0';
		if (parse_line(line, (size_t)(line - text), zone) != 0)
			continue;
		if (zindex_find(ix, zone->name) != NULL) {
			ix->duplicates++;
			continue;
		}
		zone->next = ix->buckets[hash(zone->name) % ix->nbuckets];
		ix->buckets[hash(zone->name) % ix->nbuckets] = (int32_t)ix->count++;
	}
	return (0);
}

int
zindex_refresh(zindex_t *ix, const char *root)
{
	char path[STORE_PATH_BYTES];
	file_id_t id, after;
	zindex_t fresh;
	char *text;
	size_t len;
	int err = store_path(path, root, STORE_INDEX);

	if (err != 0 || (err = identify(path, &id)) != 0)
		return (err);
	if (ix->text != NULL && same_id(&id, &ix->id))
		return (0);
	for (;;) {
		if ((err = store_read(path, &text, &len)) != 0)
			return (err);
		/* Replaced between the look and the read: what was read belongs to neither surely. */
		if ((err = identify(path, &after)) != 0) {
			free(text);
			return (err);
		}
		if (same_id(&id, &after))
			break;
		free(text);
		id = after;
	}
	if ((err = parse(&fresh, text)) != 0)
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

	for (i = ix->buckets[hash(name) % ix->nbuckets]; i >= 0; i = ix->zones[i].next) {
		if (strcmp(ix->zones[i].name, name) == 0)
			return (&ix->zones[i]);
	}
	return (NULL);
}

static int
xml_path(char *path, const char *root, const char *name)
{
	char tail[ZONENAME_MAX + 32];

	if (strlen(name) >= ZONENAME_MAX)
		return (-EINVAL);
	(void) snprintf(tail, sizeof (tail), "/etc/zones/%s.xml", name);
	return (store_path(path, root, tail));
}

int
zindex_brand(zindex_zone_t *zone, const char *root, char *brand)
{
	char path[STORE_PATH_BYTES];
	file_id_t id;
	char *xml, *start, *end;
	size_t len;
	int err = xml_path(path, root, zone->name);

	if (err != 0 || (err = identify(path, &id)) != 0)
		return (err);
	if (zone->brand[0] == '\0' || !same_id(&id, &zone->xml)) {
		if ((err = store_read(path, &xml, &len)) != 0)
			return (err);
		start = strstr(xml, "<zone ");
		start = start == NULL ? NULL : strstr(start, " brand=\"");
		end = start == NULL ? NULL : strchr(start + 8, '"');
		if (end == NULL || end - (start + 8) >= BRAND_MAX) {
			free(xml);
			return (-EINVAL);
		}
		memset(zone->brand, 0, sizeof (zone->brand));
		memcpy(zone->brand, start + 8, (size_t)(end - (start + 8)));
		zone->xml = id;
		free(xml);
	}
	(void) strcpy(brand, zone->brand);
	return (0);
}

/* Letters, digits and "-_." with a letter or digit first: zonecfg's rule for names, good for brands. */
static int
valid_name(const char *name)
{
	const char *c;

	if (!isalnum((unsigned char)*name) || strlen(name) >= ZONENAME_MAX ||
	    strcmp(name, GLOBAL_ZONENAME) == 0)
		return (0);
	for (c = name; *c != '\0'; c++) {
		if (!isalnum((unsigned char)*c) && strchr("-_.", *c) == NULL)
			return (0);
	}
	return (1);
}

static int
valid_path(const char *path)
{
	size_t len = strlen(path);

	return (*path == '/' && len > 1 && len < MAXPATHLEN - 8 && path[len - 1] != '/' &&
	    strpbrk(path, "\"<>&:\n\t") == NULL);
}

static int
write_xml(const char *root, const char *name, const char *zonepath, const char *brand)
{
	char path[STORE_PATH_BYTES];
	char xml[MAXPATHLEN + 512];
	int err = xml_path(path, root, name);
	int len;

	if (err != 0)
		return (err);
	len = snprintf(xml, sizeof (xml),
	    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	    "<!DOCTYPE zone PUBLIC \"-//Sun Microsystems Inc//DTD Zones//EN\""
	    " \"file:///usr/share/lib/xml/dtd/zonecfg.dtd.1\">\n"
	    "<zone name=\"%s\" zonepath=\"%s\" autoboot=\"false\" brand=\"%s\""
	    " ip-type=\"exclusive\"/>\n", name, zonepath, brand);
	return (store_replace(path, xml, (size_t)len));
}

/* The index's file as it is, with the newline that a hand's edit may have left out. */
static int
read_text(const char *root, char **text, size_t *len, size_t room)
{
	char path[STORE_PATH_BYTES];
	char *grown;
	int err = store_path(path, root, STORE_INDEX);

	if (err != 0)
		return (err);
	err = store_read(path, text, len);
	if (err == -ENOENT) {
		if ((*text = strdup(EMPTY_INDEX)) == NULL)
			return (-ENOMEM);
		*len = strlen(*text);
	} else if (err != 0) {
		return (err);
	}
	grown = realloc(*text, *len + room + 2);
	if (grown == NULL) {
		free(*text);
		return (-ENOMEM);
	}
	*text = grown;
	if (*len > 0 && grown[*len - 1] != '\n') {
		grown[(*len)++] = '\n';
		grown[*len] = '\0';
	}
	return (0);
}

static int
write_text(const char *root, const char *text, size_t len)
{
	char path[STORE_PATH_BYTES];
	int err = store_path(path, root, STORE_INDEX);

	return (err != 0 ? err : store_replace(path, text, len));
}

/* `name:state:zonepath:uuid:brand` cut in place; -EINVAL unless every part is one. */
static int
parse_request(char *line, char *part[5])
{
	zone_state_t state;
	int i;

	for (i = 0; i < 5; i++) {
		part[i] = line;
		line = line == NULL ? NULL : strchr(line, ':');
		if (line != NULL)
			*line++ = '\0';
		else if (i < 4)
			return (-EINVAL);
	}
	if (line != NULL || !valid_name(part[0]) || !valid_path(part[2]) || !valid_name(part[4]) ||
	    strpbrk(part[3], "\n#") != NULL)
		return (-EINVAL);
	if (state_by_name(part[1], strlen(part[1]), &state) != 0 || state > ZONE_STATE_INSTALLED)
		return (-EINVAL);
	return (0);
}

int
zindex_add(zindex_t *ix, const char *root, const char *lines)
{
	char *text = NULL, *copy, *requests = NULL, *line, *end, *part[5];
	size_t len;
	zindex_t fresh;
	uint32_t known = ix->duplicates;
	int err = read_text(root, &text, &len, strlen(lines) + 1);

	if (err != 0)
		return (err);
	requests = strdup(lines);
	if (requests == NULL) {
		err = -ENOMEM;
		goto bail;
	}
	for (line = requests; *line != '\0'; line = end) {
		end = strchr(line, '\n');
		if (end == NULL)
			end = line + strlen(line);
		else
			*end++ = '\0';
		if ((err = parse_request(line, part)) != 0)
			goto bail;
		len += (size_t)sprintf(text + len, "%s:%s:%s:%s\n", part[0], part[1], part[2], part[3]);
	}
	/* A taken name shows as a line more that says the same name. */
	copy = strdup(text);
	if (copy == NULL) {
		err = -ENOMEM;
		goto bail;
	}
	if ((err = parse(&fresh, copy)) != 0)
		goto bail;
	if (fresh.duplicates > known)
		err = -EEXIST;
	zindex_fini(&fresh);
	/* The XML comes first: whoever sees the line finds the brand. */
	(void) strcpy(requests, lines);
	for (line = requests; err == 0 && *line != '\0'; line = end) {
		end = strchr(line, '\n');
		if (end == NULL)
			end = line + strlen(line);
		else
			*end++ = '\0';
		err = parse_request(line, part);
		if (err == 0)
			err = write_xml(root, part[0], part[2], part[4]);
	}
	if (err == 0)
		err = write_text(root, text, len);
bail:
	free(text);
	free(requests);
	return (err);
}

/* Puts `line` in the place of a zone's line, NULL for nothing. */
static int
replace_line(const char *root, const zindex_zone_t *zone, const char *line)
{
	char *text, *out;
	size_t len, tail, put = line == NULL ? 0 : strlen(line);
	int err = read_text(root, &text, &len, 0);

	if (err != 0)
		return (err);
	out = malloc(len + put + 1);
	if (out == NULL) {
		free(text);
		return (-ENOMEM);
	}
	tail = zone->offset + zone->length + 1;
	memcpy(out, text, zone->offset);
	if (put > 0)
		memcpy(out + zone->offset, line, put);
	memcpy(out + zone->offset + put, text + tail, len - tail);
	err = write_text(root, out, zone->offset + put + len - tail);
	free(out);
	free(text);
	return (err);
}

int
zindex_set_state(zindex_t *ix, const char *root, const char *name, zone_state_t state)
{
	char line[MAXPATHLEN + 2 * ZONENAME_MAX + 64];
	const zindex_zone_t *zone = zindex_find(ix, name);
	int n;

	if (zone == NULL)
		return (-ENOENT);
	if (state > ZONE_STATE_INSTALLED || strcmp(name, GLOBAL_ZONENAME) == 0)
		return (-EINVAL);
	if (zone->state == state)
		return (0);
	n = snprintf(line, sizeof (line), "%s:%s:%s:%s\n", zone->name, STATE_NAMES[state],
	    zone->zonepath, zone->uuid);
	if (n < 0 || (size_t)n >= sizeof (line))
		return (-EINVAL);
	return (replace_line(root, zone, line));
}

int
zindex_remove(zindex_t *ix, const char *root, const char *name)
{
	char path[STORE_PATH_BYTES];
	const zindex_zone_t *zone = zindex_find(ix, name);
	int err;

	if (zone == NULL)
		return (-ENOENT);
	if (strcmp(name, GLOBAL_ZONENAME) == 0)
		return (-EINVAL);
	if ((err = xml_path(path, root, name)) != 0)
		return (err);
	if ((err = replace_line(root, zone, NULL)) != 0)
		return (err);
	return (unlink(path) != 0 && errno != ENOENT ? -errno : 0);
}
