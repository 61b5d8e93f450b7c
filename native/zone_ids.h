/*
 * The kernel's types for zones, from the system or the emulation.
 */
#ifndef ZONE_IDS_H
#define	ZONE_IDS_H

#ifdef __sun
#include <sys/types.h>
#include <zone.h>
/* In one header or another, as platforms go. */
#ifndef ZONENAME_MAX
#define	ZONENAME_MAX	64
#endif
#else
#include "emul/illumos.h"
#endif

#endif
