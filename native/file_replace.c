/*
 * See file_replace.h. What an interruption by a signal ends is done again, but for close, after which
 * nobody knows whether there is still a descriptor.
 */
#include "feature_macros.h"

#include "file_replace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
fails(file_fault_t *fault, file_step_t step, int directory)
{
	fault->step = step;
	fault->err = errno;
	fault->directory = directory;
	return (-1);
}

static int
open_again(const char *path, int flags, mode_t mode)
{
	int fd;

	do {
		fd = open(path, flags | O_CLOEXEC, mode);
	} while (fd < 0 && errno == EINTR);
	return (fd);
}

static int
fsync_again(int fd)
{
	int err;

	do {
		err = fsync(fd);
	} while (err != 0 && errno == EINTR);
	return (err);
}

/*
 * One that is there was left by a process that was killed. While it is ours and its group's, nobody may read it who
 * may not read it then.
 */
static int
open_temp(const file_replace_t *replace, file_fault_t *fault)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
	mode_t mode = ((replace->mode >> 3) & 07) == (replace->mode & 07) ? replace->mode & 0777 : 0600;
	int fd = open_again(replace->temp, flags, mode);

	if (fd < 0 && errno == EEXIST) {
		if (unlink(replace->temp) != 0)
			return (fails(fault, FILE_STEP_UNLINK, 0));
		fd = open_again(replace->temp, flags, mode);
	}
	return (fd < 0 ? fails(fault, FILE_STEP_OPEN, 0) : fd);
}

static int
write_all(int fd, const char *bytes, size_t length)
{
	ssize_t wrote;

	while (length > 0) {
		wrote = write(fd, bytes, length);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			return (-1);
		bytes += wrote;
		length -= (size_t)wrote;
	}
	return (0);
}

/* Fills the open temp file and brings it onto stable storage. */
static int
fill(int fd, const file_replace_t *replace, struct stat *st, file_fault_t *fault)
{
	int changes_owner;

	if (fstat(fd, st) != 0)
		return (fails(fault, FILE_STEP_STAT, 0));
	if (write_all(fd, replace->bytes, replace->length) != 0)
		return (fails(fault, FILE_STEP_WRITE, 0));
	/* Either is a transaction of the file system, so neither is asked for what is so already. */
	changes_owner = replace->owned && (st->st_uid != replace->uid || st->st_gid != replace->gid);
	if (changes_owner && fchown(fd, replace->uid, replace->gid) != 0)
		return (fails(fault, FILE_STEP_CHOWN, 0));
	/* A change of the owner can take bits away. */
	if ((changes_owner || (st->st_mode & 07777) != replace->mode) && fchmod(fd, replace->mode) != 0)
		return (fails(fault, FILE_STEP_CHMOD, 0));
	if (fsync_again(fd) != 0)
		return (fails(fault, FILE_STEP_FSYNC, 0));
	return (0);
}

static int
sync_path(const char *path, int flags, int directory, file_fault_t *fault)
{
	int fd = open_again(path, O_RDONLY | flags, 0);
	int err = 0;

	if (fd < 0)
		return (fails(fault, FILE_STEP_OPEN, directory));
	if (fsync_again(fd) != 0)
		err = fails(fault, FILE_STEP_FSYNC, directory);
	(void) close(fd);
	return (err);
}

/* The temp file, filled and on stable storage; `st` says which file it is. */
static int
make_temp(const file_replace_t *replace, struct stat *st, file_fault_t *fault)
{
	int fd = open_temp(replace, fault);
	int err;

	if (fd < 0)
		return (-1);
	err = fill(fd, replace, st, fault);
	/* Some file systems say only here that there was no room. */
	if (close(fd) != 0 && err == 0)
		err = fails(fault, FILE_STEP_CLOSE, 0);
	return (err);
}

int
file_replace(file_replace_t *replace, file_fault_t *fault)
{
	struct stat made;
	int err;

	if ((err = make_temp(replace, &made, fault)) == 0 && rename(replace->temp, replace->path) != 0)
		err = fails(fault, FILE_STEP_RENAME, 0);
	if (err != 0) {
		/* The fault itself is what counts; what cannot go now goes with the next write. */
		if (fault->step != FILE_STEP_OPEN && fault->step != FILE_STEP_UNLINK)
			(void) unlink(replace->temp);
		return (err);
	}
	if (sync_path(replace->directory, 0, 1, fault) != 0)
		return (-1);
	if ((err = file_stat(replace->path, replace->stat)) != 0) {
		errno = -err;
		return (fails(fault, FILE_STEP_STAT, 0));
	}
	/* Somebody without the lock may have put another file there: that one is not our word. */
	if (!file_stat_is(replace->stat, made.st_dev, made.st_ino))
		(void) memset(replace->stat, 0, sizeof (replace->stat));
	return (0);
}

int
file_sync(const char *path, const char *directory, file_fault_t *fault)
{
	if (sync_path(path, O_NOFOLLOW, 0, fault) != 0)
		return (-1);
	return (sync_path(directory, 0, 1, fault));
}
