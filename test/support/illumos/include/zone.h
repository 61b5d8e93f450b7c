#ifndef _ZONE_H
#define	_ZONE_H

#include <sys/types.h>

#define	ZONENAME_MAX	64

#if !defined(_STRICT_SYMBOLS)
extern ssize_t getzonenamebyid(zoneid_t, char *, size_t);
#endif

#endif
