#ifndef _SYS_STATVFS_H
#define	_SYS_STATVFS_H

#include <sys/types.h>

typedef unsigned long fsblkcnt_t;

typedef struct statvfs {
	unsigned long f_bsize;
	unsigned long f_frsize;
	fsblkcnt_t f_blocks;
	fsblkcnt_t f_bfree;
	fsblkcnt_t f_bavail;
} statvfs_t;

extern int statvfs(const char *, struct statvfs *);

#endif
