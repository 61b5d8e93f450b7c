/*
 * The XML of a configured zone, <root>/etc/zones/<name>.xml: of what the platform keeps there, the brand.
 */
#ifndef ZONE_XML_H
#define	ZONE_XML_H

#include "illumos.h"
#include "store.h"

#define	BRAND_MAX	64

/* What one version of the XML says; all 0 before it was first read. */
typedef struct zone_xml {
	store_id_t id;
	char brand[BRAND_MAX];
} zone_xml_t;

/* Brings it up to the file: one stat when nothing changed. -EINVAL: no XML of a zone. */
int zone_xml_refresh(zone_xml_t *xml, const char *root, const char *name);

/* These two are for the holder of the node's lock. An XML that is not there is removed already. */
int zone_xml_write(const char *root, const char *name, const char *zonepath, const char *brand);
int zone_xml_remove(const char *root, const char *name);

#endif
