/*
 * See zone_xml.h. Names and paths come checked: nothing in them needs to be escaped.
 */
#define	_GNU_SOURCE
#include "zone_xml.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store.h"

static int
xml_path(char *path, const char *root, const char *name)
{
	char tail[ZONENAME_MAX + 32];

	if (strlen(name) >= ZONENAME_MAX)
		return (-EINVAL);
	(void) snprintf(tail, sizeof (tail), "/etc/zones/%s.xml", name);
	return (store_path(path, root, tail));
}

/* Where a quoted value ends, or NULL. `at` stands on the quote that opens it. */
static char *
quoted_end(char *at)
{
	return (*at == '"' || *at == '\'' ? strchr(at + 1, *at) : NULL);
}

static int
is_name(char c)
{
	return (isalnum((unsigned char)c) || (c != '\0' && strchr("-_.:", c) != NULL));
}

static int
is_tag_start(const char *tag)
{
	return (isalpha((unsigned char)tag[1]) != 0);
}

/*
 * Goes through the attributes of a start tag, up to its `>`, and copies the value of `brand` where one is
 * wanted. NULL: it is not well formed.
 */
static char *
parse_attributes(char *at, char *brand)
{
	char *name, *end;
	size_t len;

	for (;;) {
		at += strspn(at, " \t\r\n");
		if (*at == '>' || (at[0] == '/' && at[1] == '>'))
			return (at);
		for (name = at; is_name(*at); at++)
			;
		if (at == name || *at != '=' || (end = quoted_end(at + 1)) == NULL)
			return (NULL);
		len = (size_t)(end - (at + 2));
		if (brand != NULL && at - name == 5 && strncmp(name, "brand", 5) == 0) {
			if (len >= BRAND_MAX)
				return (NULL);
			(void) memcpy(brand, at + 2, len);
			brand[len] = '\0';
		}
		at = end + 1;
	}
}

/* One well-formed document whose only top element is a zone, whatever is in it. */
static int
parse(char *at, char *brand)
{
	/* Names of the elements that are open. */
	char *open[16];
	size_t len[16];
	int depth = 0, zones = 0;

	while ((at = strchr(at, '<')) != NULL) {
		if (at[1] == '?' || at[1] == '!') {
			const char *stop = strncmp(at, "<!--", 4) == 0 ? "-->" : ">";

			if ((at = strstr(at, stop)) == NULL)
				return (-EINVAL);
		} else if (at[1] == '/') {
			if (depth-- == 0 || strncmp(at + 2, open[depth], len[depth]) != 0 ||
			    at[2 + len[depth]] != '>')
				return (-EINVAL);
		} else if (is_tag_start(at)) {
			int top = depth == 0;

			if (depth == (int)(sizeof (len) / sizeof (len[0])))
				return (-EINVAL);
			open[depth] = at + 1;
			for (len[depth] = 0; is_name(at[1 + len[depth]]); len[depth]++)
				;
			if (top && (len[0] != 4 || strncmp(at + 1, "zone", 4) != 0 || zones++ > 0))
				return (-EINVAL);
			at = parse_attributes(at + 1 + len[depth], top ? brand : NULL);
			if (at == NULL)
				return (-EINVAL);
			depth += *at == '>';
		} else {
			return (-EINVAL);
		}
		at++;
	}
	return (depth == 0 && zones == 1 ? 0 : -EINVAL);
}

int
zone_xml_brand(const char *root, const char *name, char *brand)
{
	char path[STORE_PATH_BYTES];
	char *text;
	size_t len;
	int err = xml_path(path, root, name);

	if (err != 0 || (err = store_read(path, &text, &len)) != 0)
		return (err);
	/* A zone whose XML names no brand has the default one. */
	(void) strcpy(brand, NATIVE_BRAND_NAME);
	err = parse(text, brand);
	free(text);
	return (err);
}

int
zone_xml_write(const char *root, const char *name, const char *zonepath, const char *brand)
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
	if (len < 0 || (size_t)len >= sizeof (xml))
		return (-EINVAL);
	return (store_replace(path, xml, (size_t)len));
}

int
zone_xml_remove(const char *root, const char *name)
{
	char path[STORE_PATH_BYTES];
	int err = xml_path(path, root, name);

	if (err != 0)
		return (err);
	return (unlink(path) != 0 && errno != ENOENT ? -errno : 0);
}
