/*
 * See zone_walk.h.
 */
#include "feature_macros.h"

#include "zone_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define	MOUNT_POINT_MODE	0755

int
walk_failed(fault_t *fault, int err, const char *call, int depth)
{
	fault->err = err;
	fault->call = call;
	fault->depth = depth;
	return (-1);
}

void
walk_end(walk_t *walk)
{
	while (walk->depth > 0)
		(void) close(walk->dirs[--walk->depth]);
}

static int
split(walk_t *walk, const char *path, fault_t *fault)
{
	char *at = walk->names;

	(void) snprintf(walk->names, sizeof (walk->names), "%s", path);
	walk->count = 0;
	while (*at != '\0') {
		if (*at == '/') {
			*at++ = '\0';
			continue;
		}
		if (walk->count == MAX_DEPTH)
			return (walk_failed(fault, ENAMETOOLONG, "lstat", walk->count));
		walk->components[walk->count++] = at;
		while (*at != '\0' && *at != '/')
			at++;
		if (*at == '/')
			*at++ = '\0';
		if (strcmp(walk->components[walk->count - 1], ".") == 0 ||
		    strcmp(walk->components[walk->count - 1], "..") == 0)
			return (walk_failed(fault, EINVAL, "lstat", walk->count));
	}
	return (walk->count == 0 ? walk_failed(fault, EINVAL, "lstat", 0) : 0);
}

/* The directory of that name, seen to be a real one and the one that is then open. */
static int
step_into(int dir, const char *name, int make, int depth, fault_t *fault)
{
	struct stat seen, opened;
	int fd;

	if (make && mkdirat(dir, name, MOUNT_POINT_MODE) != 0 && errno != EEXIST)
		return (walk_failed(fault, errno, "mkdir", depth));
	if (fstatat(dir, name, &seen, AT_SYMLINK_NOFOLLOW) != 0)
		return (walk_failed(fault, errno, "lstat", depth));
	if (S_ISLNK(seen.st_mode))
		return (walk_failed(fault, ELOOP, "lstat", depth));
	if (!S_ISDIR(seen.st_mode))
		return (walk_failed(fault, ENOTDIR, "lstat", depth));
	if ((fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return (walk_failed(fault, errno, "open", depth));
	if (fstat(fd, &opened) != 0 || opened.st_dev != seen.st_dev || opened.st_ino != seen.st_ino) {
		(void) close(fd);
		return (walk_failed(fault, ESTALE, "lstat", depth));
	}
	return (fd);
}

/* An inode's number is used again soon; with its time of change it is its own. */
static int
write_identity(const struct stat *st, char *into, size_t len)
{
	return (snprintf(into, len, "%llu:%llu:%lld.%09ld", (unsigned long long)st->st_dev,
	    (unsigned long long)st->st_ino, (long long)st->st_ctim.tv_sec, (long)st->st_ctim.tv_nsec));
}

int
walk_to(walk_t *walk, const char *root, const char *path, walk_goal_t goal, fault_t *fault)
{
	int i, fd, last, want_dir = goal != WALK_SOCKET;
	size_t used;

	walk->depth = 0;
	if (split(walk, path, fault) != 0)
		return (-1);
	if ((fd = open(root, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return (walk_failed(fault, errno, "open", 0));
	walk->dirs[walk->depth++] = fd;
	last = walk->count - (want_dir ? 0 : 1);
	for (i = 0; i < last; i++) {
		if ((fd = step_into(walk->dirs[i], walk->components[i],
		    goal == WALK_MAKE_DIRECTORY, i + 1, fault)) < 0)
			return (-1);
		walk->dirs[walk->depth++] = fd;
	}
	if (want_dir) {
		if (fstat(walk->dirs[walk->depth - 1], &walk->found) != 0)
			return (walk_failed(fault, errno, "lstat", walk->count));
	} else {
		if (fstatat(walk->dirs[i], walk->components[i], &walk->found, AT_SYMLINK_NOFOLLOW) != 0)
			return (walk_failed(fault, errno, "lstat", walk->count));
		if (S_ISLNK(walk->found.st_mode))
			return (walk_failed(fault, ELOOP, "lstat", walk->count));
		if (!S_ISSOCK(walk->found.st_mode))
			return (walk_failed(fault, ENOTSOCK, "lstat", walk->count));
	}
	/*
	 * From the port up: a directory whose stat comes after its port's has all changes that made the port, so
	 * that a port which appears between two walks is no change of its parents.
	 */
	(void) write_identity(&walk->found, walk->identity, sizeof (walk->identity));
	used = 0;
	walk->parents[0] = '\0';
	for (i = walk->depth - 1; i > 0; i--) {
		struct stat st;
		int n;

		if (fstat(walk->dirs[i], &st) != 0)
			return (walk_failed(fault, errno, "lstat", i));
		n = write_identity(&st, walk->parents + used, sizeof (walk->parents) - used);
		used += (size_t)n;
		if (used + 1 < sizeof (walk->parents))
			walk->parents[used++] = ' ';
	}
	walk->parents[used] = '\0';
	return (0);
}
