/*
 * Changes of the index of configured zones: its file is made anew, whole, and replaced by rename.
 * The cached index follows with the next refresh.
 */
#define	_GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"
#include "zindex.h"
#include "zone_xml.h"

static const char EMPTY_INDEX[] =
	"# Zones of a simulated compute node: name:state:zonepath:uuid:brand:iptype:debugid\n"
	"global:installed:/:\n";

/* What a line of zindex_add is made of. */
enum { PART_NAME, PART_STATE, PART_ZONEPATH, PART_UUID, PART_BRAND, PARTS };

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
cut_request(char *line, char *part[PARTS])
{
	zone_state_t state;
	int i;

	for (i = 0; i < PARTS; i++) {
		if ((part[i] = strsep(&line, ":")) == NULL)
			return (-EINVAL);
	}
	if (line != NULL || !valid_name(part[PART_NAME]) || !valid_path(part[PART_ZONEPATH]) ||
	    !valid_name(part[PART_BRAND]) || strchr(part[PART_UUID], '#') != NULL)
		return (-EINVAL);
	if (zindex_state_of(part[PART_STATE], &state) != 0 || state > ZONE_STATE_INSTALLED)
		return (-EINVAL);
	return (0);
}

/* Calls `use` for each line, until one fails. */
static int
each_request(const char *lines, int (*use)(void *, char *const *), void *arg)
{
	char *copy = strdup(lines);
	char *rest = copy, *part[PARTS];
	int err = 0;

	if (copy == NULL)
		return (-ENOMEM);
	while (err == 0 && rest != NULL && *rest != '\0') {
		err = cut_request(strsep(&rest, "\n"), part);
		if (err == 0)
			err = use(arg, part);
	}
	free(copy);
	return (err);
}

/* What a line of the index says more than its request: `:ex:` and the debug ID. */
#define	LINE_EXTRA	16

typedef struct addition {
	char *end;
	uint32_t debug_id;
} addition_t;

/* All seven fields, as putzoneent (libzonecfg, getzoneent.c) writes a zone that has a brand. */
static int
append_line(void *arg, char *const *part)
{
	addition_t *a = arg;

	a->end += sprintf(a->end, "%s:%s:%s:%s:%s:ex:%u\n", part[PART_NAME], part[PART_STATE],
	    part[PART_ZONEPATH], part[PART_UUID], part[PART_BRAND], ++a->debug_id);
	return (0);
}

static size_t
lines_in(const char *text)
{
	size_t lines = 1;

	for (; *text != '\0'; text++)
		lines += *text == '\n';
	return (lines);
}

static int
write_xml(void *arg, char *const *part)
{
	return (zone_xml_write(arg, part[PART_NAME], part[PART_ZONEPATH], part[PART_BRAND]));
}

/* A taken name shows as a line more that says the same name. */
static int
check_names(const zindex_t *ix, const char *text)
{
	char *copy = strdup(text);
	zindex_t fresh;
	int err;

	if (copy == NULL)
		return (-ENOMEM);
	if ((err = zindex_parse(&fresh, copy)) != 0)
		return (err);
	if (fresh.duplicates > ix->duplicates)
		err = -EEXIST;
	zindex_fini(&fresh);
	return (err);
}

int
zindex_add(zindex_t *ix, const char *root, const char *lines)
{
	addition_t a = { .debug_id = ix->count };
	char *text;
	size_t len;
	int err = read_text(root, &text, &len, strlen(lines) + LINE_EXTRA * lines_in(lines));

	if (err != 0)
		return (err);
	a.end = text + len;
	/* The XML comes first: whoever sees the line finds the brand. */
	if ((err = each_request(lines, append_line, &a)) == 0 &&
	    (err = check_names(ix, text)) == 0 &&
	    (err = each_request(lines, write_xml, (void *)(uintptr_t)root)) == 0)
		err = write_text(root, text, (size_t)(a.end - text));
	free(text);
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
	n = snprintf(line, sizeof (line), "%s:%s:%s:%s\n", zone->name, zindex_state_name(state),
	    zone->zonepath, zone->tail);
	if (n < 0 || (size_t)n >= sizeof (line))
		return (-EINVAL);
	return (replace_line(root, zone, line));
}

int
zindex_remove(zindex_t *ix, const char *root, const char *name)
{
	const zindex_zone_t *zone = zindex_find(ix, name);
	int err;

	if (zone == NULL)
		return (-ENOENT);
	if (strcmp(name, GLOBAL_ZONENAME) == 0)
		return (-EINVAL);
	if ((err = replace_line(root, zone, NULL)) != 0)
		return (err);
	return (zone_xml_remove(root, name));
}
