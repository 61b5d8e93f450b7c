/*
 * Who is on the other end of a unix socket, and in which zone.
 *
 * A simulated zone's process is one whose root directory lies in the zone: simcn starts it in a chroot. Of those
 * that listen so is one that stands in the zone: a hypervisor needs this machine's files. A shell that
 * stands there is the global zone's, as on the platform.
 * At either end the peer is the one that connected, or that listened, as on the platform (tl.c, tl_conn_req).
 * Of a process that is gone, or whose root may not be seen, the zone is unknown (-1), never the
 * global one. Supplementary groups, which the kernel keeps of a peer, cannot mark a zone's processes: su sets
 * them anew, and a user namespace may forbid to set them.
 */
#define	_GNU_SOURCE
#include "illumos.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "node.h"

struct ucred_s {
	zoneid_t zoneid;
	pid_t pid;
	uid_t euid;
};

/* Linux' own; its header hides it behind the name that the platform gives to something else. */
struct peercred {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

/* The zone that the directory lies in which `link` of /proc names. */
static zoneid_t
zone_of_link(const char *link)
{
	char path[STORE_PATH_BYTES], root[PATH_MAX], named[2 * STORE_PATH_BYTES], name[ZONENAME_MAX];
	zoneid_t zoneid = GLOBAL_ZONEID;
	zone_record_t zone;
	node_t *node;
	ssize_t len = readlink(link, path, sizeof (path) - 1);
	int err;

	if (len < 0)
		return (-1);
	path[len] = '\0';
	if ((node = node_enter_current()) == NULL)
		return (-1);
	err = table_open(&node->table, node->root);
	/* A node that was never booted has no other zone. */
	if (err != 0) {
		zoneid = err == -ENOENT ? GLOBAL_ZONEID : -1;
	} else if (realpath(node->root, root) == NULL) {
		zoneid = -1;
	} else if (strncmp(path, root, strlen(root)) == 0) {
		/* The link has no symbolic link in it; the node's root may be named by one. */
		(void) snprintf(named, sizeof (named), "%s%s", node->root, path + strlen(root));
		if (node_zone_of_path(node, named, name) == 0 &&
		    table_zone(&node->table, node->root, name, 0, &zone) == 0 &&
		    zone.status < ZONE_IS_DYING)
			zoneid = zone.id;
	}
	node_leave(node);
	return (zoneid);
}

static struct stat own_root;
static int own_root_known;

static void
look_at_own_root(void)
{
	own_root_known = stat("/", &own_root) == 0;
}

/* An accepted socket has the name of its listener. */
static int
was_accepted(int fd)
{
	struct sockaddr_un name;
	socklen_t len = sizeof (name);

	return (getsockname(fd, (struct sockaddr *)&name, &len) == 0 &&
	    len > offsetof(struct sockaddr_un, sun_path));
}

static zoneid_t
zone_of_process(int fd, pid_t pid)
{
	/* A process of the node never changes its root. */
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char link[64];
	struct stat seen;

	(void) snprintf(link, sizeof (link), "/proc/%ld/root", (long)pid);
	if (pid <= 0 || stat(link, &seen) != 0)
		return (-1);
	(void) pthread_once(&once, look_at_own_root);
	if (!own_root_known || own_root.st_dev != seen.st_dev || own_root.st_ino != seen.st_ino)
		return (zone_of_link(link));
	if (was_accepted(fd))
		return (GLOBAL_ZONEID);
	(void) snprintf(link, sizeof (link), "/proc/%ld/cwd", (long)pid);
	return (zone_of_link(link));
}

int
getpeerucred(int fd, ucred_t **ucred)
{
	struct peercred peer;
	socklen_t len = sizeof (peer);
	ucred_t *u;

	if (ucred == NULL) {
		errno = EFAULT;
		return (-1);
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return (-1);
	/* What Linux says of a socket without a peer; pid 0 alone is a process we have no name for. */
	if (peer.pid == 0 && peer.uid == (uid_t)-1) {
		errno = ENOTCONN;
		return (-1);
	}
	/* As on the platform, one that the caller brings is filled. */
	u = *ucred != NULL ? *ucred : malloc(sizeof (*u));
	if (u == NULL) {
		errno = ENOMEM;
		return (-1);
	}
	u->pid = peer.pid;
	u->euid = peer.uid;
	u->zoneid = zone_of_process(fd, peer.pid);
	*ucred = u;
	return (0);
}

void
ucred_free(ucred_t *ucred)
{
	free(ucred);
}

zoneid_t
ucred_getzoneid(const ucred_t *ucred)
{
	return (ucred->zoneid);
}

pid_t
ucred_getpid(const ucred_t *ucred)
{
	return (ucred->pid);
}

uid_t
ucred_geteuid(const ucred_t *ucred)
{
	return (ucred->euid);
}
