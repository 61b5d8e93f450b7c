/*
 * lofs mounts: mount(2) and umount2(2) with the platform's signatures, as real bind mounts of Linux.
 *
 * The names shadow libc's inside of this library, so the kernel is called by number. Any thread may
 * call; the node is locked meanwhile. A mount is made read-only before it is attached: no zone can write through it at any time. Without
 * the privilege the kernel refuses and so do these: nothing is ever pretended. simcn's own tear-down, which must not
 * wait for anybody, is in unmount_all.c.
 */
#define	_GNU_SOURCE
#include "illumos.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lofs.h"
#include "mnttab.h"
#include "node.h"

/* An option as the platform spells it, and what it means to the kernel here. */
static const struct {
	const char *name;
	unsigned int set;
	unsigned int clear;
} OPTIONS[] = {
	{ "ro", MOUNT_ATTR_RDONLY, 0 },
	{ "rw", 0, MOUNT_ATTR_RDONLY },
	{ "nosuid", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0 },
	{ "suid", 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV },
	{ "nosetuid", MOUNT_ATTR_NOSUID, 0 },
	{ "setuid", 0, MOUNT_ATTR_NOSUID },
	{ "nodevices", MOUNT_ATTR_NODEV, 0 },
	{ "devices", 0, MOUNT_ATTR_NODEV },
	{ "noexec", MOUNT_ATTR_NOEXEC, 0 },
	{ "exec", 0, MOUNT_ATTR_NOEXEC },
};

/* Options that are unknown are left out, as the platform's kernel does. */
static int
parse_options(const char *text, unsigned int *attributes)
{
	char *copy = strdup(text);
	char *rest = copy, *option;
	size_t i;

	if (copy == NULL)
		return (-ENOMEM);
	*attributes = 0;
	while ((option = strsep(&rest, ",")) != NULL) {
		for (i = 0; i < sizeof (OPTIONS) / sizeof (OPTIONS[0]); i++) {
			if (strcmp(option, OPTIONS[i].name) == 0)
				*attributes = (*attributes | OPTIONS[i].set) & ~OPTIONS[i].clear;
		}
	}
	free(copy);
	return (0);
}

static void
format_options(unsigned int attributes, char *buf, size_t len)
{
	(void) snprintf(buf, len, "%s,%s,%s,%s",
	    attributes & MOUNT_ATTR_RDONLY ? "ro" : "rw",
	    attributes & MOUNT_ATTR_NODEV ? "nodevices" : "devices",
	    attributes & MOUNT_ATTR_NOSUID ? "nosetuid" : "setuid",
	    attributes & MOUNT_ATTR_NOEXEC ? "noexec" : "exec");
}

static int
is_mount_root(const char *dir)
{
	struct statx stx;

	return (statx(AT_FDCWD, dir, AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &stx) == 0 &&
	    (stx.stx_attributes & stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0);
}

/*
 * The path as the table has it: domount (uts/common/fs/vfs.c) resolves it with every link. The node's root
 * stands for `/`, so it is named as the node was.
 */
static int
resolve(const node_t *node, const char *dir, char *into)
{
	char real[PATH_MAX], root[PATH_MAX];
	size_t len;
	int n;

	if (realpath(dir, real) == NULL || realpath(node->root, root) == NULL)
		return (-errno);
	len = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (strncmp(real, root, len) == 0 && real[len] == '/')
		n = snprintf(into, PATH_MAX, "%s%s", len == 0 ? "" : node->root, real + len);
	else
		n = snprintf(into, PATH_MAX, "%s", real);
	return (n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0);
}

/*
 * Whether this process has the directory open, or stands in it. The platform refuses to mount over one that anybody
 * holds (lofs_vfsops.c, lo_mount); of other processes it is not known here.
 */
static int
holds(const struct stat *dir)
{
	DIR *fds = opendir("/proc/self/fd");
	struct dirent *entry;
	struct stat st;
	int found = stat(".", &st) == 0 && st.st_dev == dir->st_dev && st.st_ino == dir->st_ino;

	while (fds != NULL && !found && (entry = readdir(fds)) != NULL) {
		found = entry->d_name[0] != '.' && fstat(atoi(entry->d_name), &st) == 0 &&
		    st.st_dev == dir->st_dev && st.st_ino == dir->st_ino;
	}
	if (fds != NULL)
		(void) closedir(fds);
	return (found);
}

/* EBUSY as on the platform: something is mounted at `dir`, this very directory is, or it is held. */
static int
check_ends(const char *special, const char *dir, int flags, dev_t *dev)
{
	struct stat from, to;

	if (stat(special, &from) != 0 || stat(dir, &to) != 0)
		return (-errno);
	if (!S_ISDIR(from.st_mode) || !S_ISDIR(to.st_mode))
		return (-ENOTDIR);
	*dev = from.st_dev;
	if (from.st_dev == to.st_dev && from.st_ino == to.st_ino)
		return (-EBUSY);
	return ((flags & ILLUMOS_MS_OVERLAY) == 0 && (is_mount_root(dir) || holds(&to)) ? -EBUSY : 0);
}

/* A copy of the tree gets its attributes while it is nowhere yet, and is attached complete. */
static int
bind_mount(const char *special, const char *dir, unsigned int attributes)
{
	struct mount_attr attr = { .attr_set = attributes };
	int err = 0;
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, special, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd < 0)
		return (-errno);
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof (attr)) != 0 ||
	    syscall(SYS_move_mount, fd, "", AT_FDCWD, dir,
	    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) != 0)
		err = -errno;
	(void) close(fd);
	return (err);
}

/* The same in two steps, for kernels before 5.12: it is writable for a short time. */
static int
bind_mount_old(const char *special, const char *dir, unsigned int attributes)
{
	unsigned long flags = MS_BIND | MS_REMOUNT;
	int err;

	if (attributes & MOUNT_ATTR_RDONLY)
		flags |= MS_RDONLY;
	if (attributes & MOUNT_ATTR_NOSUID)
		flags |= MS_NOSUID;
	if (attributes & MOUNT_ATTR_NODEV)
		flags |= MS_NODEV;
	if (attributes & MOUNT_ATTR_NOEXEC)
		flags |= MS_NOEXEC;
	if (syscall(SYS_mount, special, dir, NULL, MS_BIND, NULL) != 0)
		return (-errno);
	if (syscall(SYS_mount, NULL, dir, NULL, flags, NULL) == 0)
		return (0);
	err = -errno;
	(void) syscall(SYS_umount2, dir, LINUX_MNT_DETACH);
	return (err);
}

/* With the node's lock held. */
static int
mount_lofs(node_t *node, const char *special, const char *dir, int flags, char *options,
    size_t len)
{
	char name[ZONENAME_MAX], point[PATH_MAX];
	unsigned int attributes;
	dev_t dev = 0;
	int err;

	if ((err = parse_options(options, &attributes)) != 0 ||
	    (err = check_ends(special, dir, flags, &dev)) != 0 ||
	    (err = resolve(node, dir, point)) != 0)
		return (err);
	err = bind_mount(special, dir, attributes);
	if (err == -ENOSYS)
		err = bind_mount_old(special, dir, attributes);
	if (err != 0)
		return (err);
	format_options(attributes, options, len);
	err = mnttab_add(node->root, special, point, options,
	    node_zone_of_path(node, point, name) == 0 ? name : NULL, dev);
	if (err != 0)
		(void) syscall(SYS_umount2, dir, LINUX_MNT_DETACH);
	return (err);
}

int
mount(const char *special, const char *dir, int flags, ...)
{
	const char *fstype;
	char *options;
	node_t *node;
	size_t len;
	va_list args;
	int err;

	va_start(args, flags);
	fstype = va_arg(args, const char *);
	(void) va_arg(args, char *);
	(void) va_arg(args, int);
	options = va_arg(args, char *);
	len = (size_t)va_arg(args, int);
	va_end(args);

	if ((flags & ILLUMOS_MS_OPTIONSTR) == 0 || options == NULL || fstype == NULL ||
	    strcmp(fstype, "lofs") != 0 || memchr(options, '\0', len) == NULL) {
		errno = EINVAL;
		return (-1);
	}
	if ((err = node_lock(&node, NULL)) == 0)
		err = node_unlock(node, mount_lofs(node, special, dir, flags, options, len));
	errno = -err;
	return (err == 0 ? 0 : -1);
}

/*
 * A lofs is never unmounted by force, and not at all while somebody is in it (lofs_vfsops.c, lo_unmount). With
 * the node's lock held.
 */
static int
unmount_lofs(node_t *node, const char *dir, int flags)
{
	char point[PATH_MAX];
	int failed, err = resolve(node, dir, point);

	if (err != 0)
		return (err);
	if ((flags & ILLUMOS_MS_FORCE) != 0 && is_mount_root(dir))
		return (-ENOTSUP);
	if (syscall(SYS_umount2, dir, 0) != 0)
		err = -errno;
	/* EINVAL: somebody has unmounted it past this library, and the table does not know. */
	if (err != 0 && err != -EINVAL)
		return (err);
	failed = mnttab_remove(node->root, point);
	return (err == 0 ? failed : err);
}

int
umount2(const char *dir, int flags)
{
	node_t *node;
	int err;

	if ((err = node_lock(&node, NULL)) == 0)
		err = node_unlock(node, unmount_lofs(node, dir, flags));
	errno = -err;
	return (err == 0 ? 0 : -1);
}
