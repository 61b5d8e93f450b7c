#ifndef _SYS_STAT_H
#define	_SYS_STAT_H

#include <sys/types.h>
#include <time.h>

struct stat {
	dev_t st_dev;
	ino_t st_ino;
	mode_t st_mode;
	uid_t st_uid;
	gid_t st_gid;
	off_t st_size;
#if !defined(_STRICT_SYMBOLS)
	timespec_t st_mtim;
	timespec_t st_ctim;
#endif
};

#define	S_IFMT		0xF000
#define	S_ISDIR(mode)	(((mode) & S_IFMT) == 0x4000)
#define	S_ISREG(mode)	(((mode) & S_IFMT) == 0x8000)
#define	S_ISLNK(mode)	(((mode) & S_IFMT) == 0xa000)
#define	S_ISSOCK(mode)	(((mode) & S_IFMT) == 0xc000)

extern int stat(const char *, struct stat *);
extern int lstat(const char *, struct stat *);
extern int fstat(int, struct stat *);
extern int fchmod(int, mode_t);
#if !defined(_STRICT_SYMBOLS)
extern int fstatat(int, const char *, struct stat *, int);
extern int mkdirat(int, const char *, mode_t);
#endif

#endif
