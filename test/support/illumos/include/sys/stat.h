#ifndef _SYS_STAT_H
#define	_SYS_STAT_H

#include <sys/types.h>
#include <time.h>

struct stat {
	dev_t st_dev;
	ino_t st_ino;
	off_t st_size;
#if !defined(_STRICT_SYMBOLS)
	timespec_t st_mtim;
	timespec_t st_ctim;
#endif
};

extern int lstat(const char *, struct stat *);
extern int fstat(int, struct stat *);
extern int fchmod(int, mode_t);

#endif
