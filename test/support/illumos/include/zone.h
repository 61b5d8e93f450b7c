#ifndef _ZONE_H
#define	_ZONE_H

#include <sys/types.h>

#define	ZONENAME_MAX	64

#define	ZONE_ATTR_NAME		2
#define	ZONE_ATTR_STATUS	3

#if !defined(_STRICT_SYMBOLS)
extern int zone_list(zoneid_t *, uint_t *);
extern ssize_t zone_getattr(zoneid_t, int, void *, size_t);
extern ssize_t getzonenamebyid(zoneid_t, char *, size_t);
#endif

#endif
