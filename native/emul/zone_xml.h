/*
 * The XML of a configured zone, <root>/etc/zones/<name>.xml: of what the platform keeps there, the brand.
 */
#ifndef ZONE_XML_H
#define	ZONE_XML_H

#include "illumos.h"

#define	BRAND_MAX	64

/*
 * Reads and parses the whole document; `brand` has room for BRAND_MAX bytes. -EINVAL: not the XML of a
 * zone. Nothing is cached: libzonecfg parses at each call too.
 */
int zone_xml_brand(const char *root, const char *name, char *brand);

/* These two are for the holder of the node's lock. An XML that is not there is removed already. */
int zone_xml_write(const char *root, const char *name, const char *zonepath, const char *brand);
int zone_xml_remove(const char *root, const char *name);

#endif
