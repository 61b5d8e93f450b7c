#ifndef _FCNTL_H
#define	_FCNTL_H

#include <sys/types.h>

#define	O_RDONLY	0
#if !defined(_STRICT_SYMBOLS)
#define	O_CLOEXEC	0x800000
#endif

extern int open(const char *, int, ...);

#endif
