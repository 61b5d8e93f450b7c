#ifndef _FCNTL_H
#define	_FCNTL_H

#include <sys/types.h>

#define	O_RDONLY	0
#define	O_WRONLY	1
#define	O_RDWR		2
#define	O_NONBLOCK	0x80
#define	O_CREAT		0x100
#define	O_TRUNC		0x200
#define	O_EXCL		0x400
#if !defined(_STRICT_SYMBOLS)
#define	O_NOFOLLOW	0x20000
#define	O_CLOEXEC	0x800000
#define	AT_SYMLINK_NOFOLLOW	0x1000
#endif

#define	F_SETLK		6
#define	F_WRLCK		2

typedef struct flock {
	short	l_type;
	short	l_whence;
	off_t	l_start;
	off_t	l_len;
	int	l_sysid;
	pid_t	l_pid;
	long	l_pad[4];
} flock_t;

extern int open(const char *, int, ...);
extern int fcntl(int, int, ...);
#if !defined(_STRICT_SYMBOLS)
extern int openat(int, const char *, int, ...);
#endif

#define	O_NONBLOCK	0x80
#define	AT_SYMLINK_NOFOLLOW	0x1000

extern int openat(int, const char *, int, ...);

#endif
