/*
 * See zone_xml.h. Names and paths come checked: nothing in them needs to be escaped.
 */
#define	_GNU_SOURCE
#include "zone_xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
zone_xml_refresh(zone_xml_t *xml, const char *root, const char *name)
{
	char path[STORE_PATH_BYTES];
	store_id_t id;
	char *text, *start, *end;
	size_t len;
	int err = xml_path(path, root, name);

	if (err != 0 || (err = store_identify(path, &id)) != 0)
		return (err);
	if (xml->brand[0] != '\0' && store_same(&id, &xml->id))
		return (0);
	if ((err = store_read(path, &text, &len)) != 0)
		return (err);
	start = strstr(text, "<zone ");
	start = start == NULL ? NULL : strstr(start, " brand=\"");
	end = start == NULL ? NULL : strchr(start + 8, '"');
	if (end == NULL || end - (start + 8) >= BRAND_MAX) {
		free(text);
		return (-EINVAL);
	}
	(void) memset(xml->brand, 0, sizeof (xml->brand));
	(void) memcpy(xml->brand, start + 8, (size_t)(end - (start + 8)));
	xml->id = id;
	free(text);
	return (0);
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
