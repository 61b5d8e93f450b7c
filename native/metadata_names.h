/*
 * The names of a metadata.json's members: as text that KEYS can send as it is, sorted for look-ups, and in the order
 * in which JSON.parse would have them. All of it is made once, where the file is scanned, so that the main thread makes
 * no string of a name that nobody asks for.
 */
#ifndef METADATA_NAMES_H
#define	METADATA_NAMES_H

#include "metadata_offsets.h"

/* Fills names, order, plain names, their flags and the guest's use from the members. 0, or -1 without memory. */
int metadata_names_make(const uint8_t *bytes, metadata_scan_t *scan);

#endif
