/*
 * See file_lock.h.
 */
#include "feature_macros.h"

#include "file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that is replaced more often than this while it is locked is left to whoever does it. */
#define	ATTEMPTS	8

static int
open_again(const char *path)
{
	int fd;

	do {
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	} while (fd < 0 && errno == EINTR);
	return (fd);
}

static int
set_lock(int fd)
{
	struct flock whole;

	(void) memset(&whole, 0, sizeof (whole));
	whole.l_type = F_WRLCK;
	whole.l_whence = SEEK_SET;
	if (fcntl(fd, F_SETLK, &whole) == 0)
		return (0);
	/* POSIX leaves it to the system which of the two says "held by another". */
	return (errno == EACCES ? -EAGAIN : -errno);
}

/* 1 where the path still names the file, 0 where it does not, or -errno. */
static int
is_at(int fd, const char *path)
{
	struct stat ours, named;

	if (fstat(fd, &ours) != 0)
		return (-errno);
	if (stat(path, &named) != 0)
		return (errno == ENOENT ? 0 : -errno);
	return (ours.st_dev == named.st_dev && ours.st_ino == named.st_ino);
}

int
file_lock(const char *path, int *fd)
{
	int attempt, found = 0;

	for (attempt = 0; attempt < ATTEMPTS; attempt++) {
		if ((*fd = open_again(path)) < 0)
			return (-errno);
		if ((found = set_lock(*fd)) == 0 && (found = is_at(*fd, path)) == 1)
			return (0);
		(void) close(*fd);
		*fd = -1;
		if (found < 0)
			return (found);
		/* Somebody removed it meanwhile: the lock that counts is on the new one. */
	}
	return (-EAGAIN);
}
