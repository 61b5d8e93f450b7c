#ifndef _FCNTL_H
#define	_FCNTL_H

#include <sys/types.h>

#define	O_RDONLY	0
#define	O_WRONLY	1
#define	O_NONBLOCK	0x80
#define	O_CREAT		0x100
#define	O_EXCL		0x400
#if !defined(_STRICT_SYMBOLS)
#define	O_NOFOLLOW	0x20000
#define	O_CLOEXEC	0x800000
#define	AT_SYMLINK_NOFOLLOW	0x1000
#endif

extern int open(const char *, int, ...);
#if !defined(_STRICT_SYMBOLS)
extern int openat(int, const char *, int, ...);
#endif

#define	O_NONBLOCK	0x80
#define	AT_SYMLINK_NOFOLLOW	0x1000

extern int openat(int, const char *, int, ...);

#endif
