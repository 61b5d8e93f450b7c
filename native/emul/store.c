/*
 * Files of a simulated node. Nothing here keeps state; any thread may call.
 */
#define	_GNU_SOURCE
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int
store_path(char *path, const char *root, const char *tail)
{
	const char *base = strcmp(root, "/") == 0 ? "" : root;
	int n = snprintf(path, STORE_PATH_BYTES, "%s%s", base, tail);

	return (n < 0 || n >= STORE_PATH_BYTES ? -ENAMETOOLONG : 0);
}

int
store_mkdirs(const char *root, const char *tail)
{
	char path[STORE_PATH_BYTES];
	size_t base = strcmp(root, "/") == 0 ? 0 : strlen(root);
	int err = store_path(path, root, tail);
	char *slash;

	if (err != 0)
		return (err);
	/* The root itself is made too where it is missing, but not what it lies in. */
	for (slash = path + base; slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (slash != path && mkdir(path, 0755) != 0 && errno != EEXIST)
			return (-errno);
		*slash = '/';
	}
	return (mkdir(path, 0755) != 0 && errno != EEXIST ? -errno : 0);
}

int
store_open(const char *root, const char *tail, int flags)
{
	char path[STORE_PATH_BYTES];
	int err = store_path(path, root, tail);
	int fd;

	if (err != 0)
		return (err);
	fd = open(path, flags | O_CLOEXEC, 0644);
	return (fd < 0 ? -errno : fd);
}

int
store_lock(const char *root, const char *tail)
{
	int fd = store_open(root, tail, O_RDWR | O_CREAT);
	int err;

	while (fd >= 0 && flock(fd, LOCK_EX) != 0) {
		if (errno != EINTR) {
			err = -errno;
			(void) close(fd);
			return (err);
		}
	}
	return (fd);
}

void
store_unlock(int fd)
{
	(void) close(fd);
}

int
store_read(const char *path, char **bytes, size_t *len)
{
	struct stat st;
	char *buf = NULL;
	size_t have = 0;
	ssize_t n;
	int err = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return (-errno);
	if (fstat(fd, &st) != 0) {
		err = -errno;
		goto bail;
	}
	buf = malloc((size_t)st.st_size + 1);
	if (buf == NULL) {
		err = -ENOMEM;
		goto bail;
	}
	/* Files are replaced, never written in place: the size that was seen is the size there is. */
	while (have < (size_t)st.st_size) {
		n = read(fd, buf + have, (size_t)st.st_size - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err = -errno;
			goto bail;
		}
		if (n == 0)
			break;
		have += (size_t)n;
	}
	buf[have] = '\0';
	*bytes = buf;
	*len = have;
	buf = NULL;
bail:
	free(buf);
	(void) close(fd);
	return (err);
}

static int
write_all(int fd, const char *bytes, size_t len)
{
	ssize_t n;

	while (len > 0) {
		n = write(fd, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return (-errno);
		bytes += n;
		len -= (size_t)n;
	}
	return (0);
}

/* The kernel's own stamps are as coarse as its tick, and two versions can share one. */
static int
stamp_later(int fd, const char *before)
{
	struct timespec times[2];
	struct stat st;

	if (clock_gettime(CLOCK_REALTIME, &times[0]) != 0)
		return (-errno);
	if (stat(before, &st) == 0 && (st.st_mtim.tv_sec > times[0].tv_sec ||
	    (st.st_mtim.tv_sec == times[0].tv_sec && st.st_mtim.tv_nsec >= times[0].tv_nsec))) {
		times[0] = st.st_mtim;
		if (++times[0].tv_nsec == 1000000000) {
			times[0].tv_nsec = 0;
			times[0].tv_sec++;
		}
	}
	times[1] = times[0];
	return (futimens(fd, times) != 0 ? -errno : 0);
}

int
store_replace(const char *path, const char *bytes, size_t len)
{
	static atomic_uint serial;
	char temp[STORE_PATH_BYTES + 32];
	int err;
	int fd;

	(void) snprintf(temp, sizeof (temp), "%s.%ld.%u", path, (long)getpid(),
	    atomic_fetch_add(&serial, 1));
	/* A dead process of the same id may have left one. */
	(void) unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return (-errno);
	err = write_all(fd, bytes, len);
	if (err == 0)
		err = stamp_later(fd, path);
	if (close(fd) != 0 && err == 0)
		err = -errno;
	if (err == 0 && rename(temp, path) != 0)
		err = -errno;
	if (err != 0)
		(void) unlink(temp);
	return (err);
}

int
store_identify(const char *path, store_id_t *id)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return (-errno);
	id->dev = st.st_dev;
	id->ino = st.st_ino;
	id->size = st.st_size;
	id->mtime = st.st_mtim;
	return (0);
}

int
store_same(const store_id_t *a, const store_id_t *b)
{
	return (a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	    a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec);
}
