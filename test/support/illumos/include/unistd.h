#ifndef _UNISTD_H
#define	_UNISTD_H

#include <sys/types.h>

extern int close(int);
extern ssize_t write(int, const void *, size_t);
extern int fsync(int);
extern int fchown(int, uid_t, gid_t);
extern int unlink(const char *);

#endif
