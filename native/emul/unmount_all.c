/*
 * The end of a simulated node's mounts: emul_unmount of one, emul_unmount_all of all. Unlike the platform's umount2
 * (lofs.c) they wait for nobody who uses a mount. What is mounted is what the kernel says, not what the node's table
 * says: an earlier run may have been killed between the two.
 */
#define	_GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emul.h"
#include "lofs.h"
#include "mnttab.h"
#include "node.h"

static int
unmount(const char *dir)
{
	/* Busy: whoever uses it keeps it until then, but it is out of the tree. */
	if (syscall(SYS_umount2, dir, LINUX_UMOUNT_NOFOLLOW) == 0 ||
	    syscall(SYS_umount2, dir, LINUX_UMOUNT_NOFOLLOW | LINUX_MNT_DETACH) == 0)
		return (0);
	return (-errno);
}

static int
is_octal(char c)
{
	return (c >= '0' && c <= '7');
}

/* Linux writes blanks as \ooo in its table; the platform does not. */
static void
unescape(char *field)
{
	char *to = field;

	while (*field != '\0') {
		if (field[0] == '\\' && is_octal(field[1]) && is_octal(field[2]) &&
		    is_octal(field[3])) {
			*to++ = (char)((field[1] - '0') * 64 + (field[2] - '0') * 8 + field[3] - '0');
			field += 4;
		} else {
			*to++ = *field++;
		}
	}
	*to = '\0';
}

/* Mount points strictly below `real`, in the order they were made. The caller frees both levels. */
static int
mounts_below(const char *real, char ***dirs, size_t *count)
{
	FILE *info = fopen("/proc/self/mountinfo", "re");
	size_t room = 0, len = strlen(real);
	char *line = NULL, *rest, *field = NULL;
	char **grown;
	int i;

	*dirs = NULL;
	*count = 0;
	if (info == NULL)
		return (-errno);
	while (getline(&line, &room, info) > 0) {
		/* id, parent, device, root, then the mount point */
		for (rest = line, i = 0; i < 5; i++)
			field = strsep(&rest, " ");
		if (field == NULL)
			continue;
		unescape(field);
		if (strncmp(field, real, len) != 0 || field[len] != '/')
			continue;
		grown = realloc(*dirs, (*count + 1) * sizeof (char *));
		if (grown == NULL || (grown[*count] = strdup(field)) == NULL) {
			*dirs = grown == NULL ? *dirs : grown;
			free(line);
			(void) fclose(info);
			return (-ENOMEM);
		}
		*dirs = grown;
		(*count)++;
	}
	free(line);
	(void) fclose(info);
	return (0);
}

/* Nothing is mounted below the root, and its table has no other lines. */
static int
clear_table(const char *root)
{
	char path[STORE_PATH_BYTES];
	node_t *node;
	int err;

	if ((err = node_lock(&node, root)) == 0) {
		if ((err = store_path(path, node->root, STORE_MNTTAB)) == 0)
			err = store_replace(path, "", 0);
		err = node_unlock(node, err);
	}
	/* A node that never booted has no table. */
	return (err == -ENOENT ? 0 : err);
}

int
emul_unmount(const char *root, const char *dir)
{
	node_t *node;
	int failed, err;

	if ((err = node_lock(&node, root)) != 0)
		return (err);
	err = unmount(dir);
	/* What is not mounted any more leaves the table too. */
	failed = err == 0 || err == -EINVAL ? mnttab_remove(node->root, dir) : 0;
	return (node_unlock(node, err == 0 ? failed : err));
}

int
emul_unmount_all(const char *root, uint32_t *count)
{
	char *real = realpath(root, NULL);
	char **dirs = NULL;
	size_t found = 0;
	int err, one;

	*count = 0;
	if (real == NULL)
		return (-errno);
	if (strcmp(real, "/") == 0) {
		/* The whole machine's mounts are nobody's to take away. */
		free(real);
		return (-EINVAL);
	}
	err = mounts_below(real, &dirs, &found);
	while (found > 0) {
		found--;
		if (err == 0) {
			one = unmount(dirs[found]);
			if (one == 0)
				(*count)++;
			else
				err = one;
		}
		free(dirs[found]);
	}
	free(dirs);
	free(real);
	return (err == 0 ? clear_table(root) : err);
}
