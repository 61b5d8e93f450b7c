#ifndef _UNISTD_H
#define	_UNISTD_H

#include <sys/types.h>

#define	SEEK_SET	0

#define	STDIN_FILENO	0
#define	STDOUT_FILENO	1

extern void _exit(int);
extern int close(int);
extern int chdir(const char *);
extern int fchdir(int);
extern ssize_t read(int, void *, size_t);
extern ssize_t pread(int, void *, size_t, off_t);
extern ssize_t write(int, const void *, size_t);
extern int fsync(int);
extern int fchown(int, uid_t, gid_t);
extern int unlink(const char *);

#endif
