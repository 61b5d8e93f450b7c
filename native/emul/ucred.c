/*
 * Who is on the other end of a unix socket, and in which zone.
 *
 * A simulated zone's process is one whose root directory is the zone's: simcn starts it in a chroot. So is
 * one whose working directory is the zone's root: a hypervisor needs this machine's files and stands there.
 * At either end the peer is the one that connected, or that listened, as on the platform (tl.c, tl_conn_req).
 * Of a process that is gone, or whose root may not be seen, the zone is unknown (-1), never the
 * global one.
 */
#define	_GNU_SOURCE
#include "illumos.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

static int
is_root_of(node_t *node, const zone_record_t *zone, const struct stat *seen)
{
	char path[STORE_PATH_BYTES];
	struct stat st;

	return (zone->status < ZONE_IS_DYING && store_path(path, node->root, zone->rootpath) == 0 &&
	    stat(path, &st) == 0 && st.st_dev == seen->st_dev && st.st_ino == seen->st_ino);
}

/* The zone whose root directory `seen` is. `path` is where it seems to be: a first guess. */
static zoneid_t
zone_of_root(node_t *node, const char *path, const struct stat *seen)
{
	zone_status_t *status;
	zone_record_t zone;
	char name[ZONENAME_MAX];
	zoneid_t id, found = GLOBAL_ZONEID;
	int err = table_open(&node->table, node->root);

	/* A node that was never booted has no other zone. */
	if (err != 0)
		return (err == -ENOENT ? GLOBAL_ZONEID : -1);
	if (node_zone_of_path(node, path, name) == 0 &&
	    table_zone(&node->table, node->root, name, 0, &zone) == 0 &&
	    is_root_of(node, &zone, seen))
		return (zone.id);
	/* In a mount namespace of its own the process may call its root by any path. */
	status = malloc((MAX_ZONEID + 1) * sizeof (*status));
	if (status == NULL || table_statuses(&node->table, node->root, status) != 0) {
		free(status);
		return (-1);
	}
	for (id = MIN_USERZONEID; id <= MAX_ZONEID && found == GLOBAL_ZONEID; id++) {
		if (status[id] != ZONE_IS_UNINITIALIZED &&
		    table_zone(&node->table, node->root, NULL, id, &zone) == 0 &&
		    is_root_of(node, &zone, seen))
			found = id;
	}
	free(status);
	return (found);
}

static struct stat own_root;
static int own_root_known;

static void
look_at_own_root(void)
{
	own_root_known = stat("/", &own_root) == 0;
}

/* The zone whose root is the working directory of a process that has no root of its own. */
static zoneid_t
zone_of_directory(pid_t pid)
{
	char link[64], path[STORE_PATH_BYTES], name[ZONENAME_MAX];
	zoneid_t zoneid = GLOBAL_ZONEID;
	zone_record_t zone;
	struct stat seen;
	node_t *node;
	ssize_t len;

	(void) snprintf(link, sizeof (link), "/proc/%ld/cwd", (long)pid);
	if ((len = readlink(link, path, sizeof (path) - 1)) < 0)
		return (-1);
	path[len] = '\0';
	if ((node = node_enter_current()) == NULL)
		return (-1);
	/* Most stand outside of the node, and are not looked at any further. */
	if (node_zone_of_path(node, path, name) == 0) {
		if (stat(link, &seen) != 0)
			zoneid = -1;
		else if (table_open(&node->table, node->root) == 0 &&
		    table_zone(&node->table, node->root, name, 0, &zone) == 0 &&
		    is_root_of(node, &zone, &seen))
			zoneid = zone.id;
	}
	node_leave(node);
	return (zoneid);
}

static zoneid_t
zone_of_process(pid_t pid)
{
	/* A process of the node never changes its root. */
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char link[64], path[STORE_PATH_BYTES];
	struct stat seen;
	node_t *node;
	zoneid_t zoneid;
	ssize_t len;

	(void) snprintf(link, sizeof (link), "/proc/%ld/root", (long)pid);
	if (pid <= 0 || stat(link, &seen) != 0)
		return (-1);
	(void) pthread_once(&once, look_at_own_root);
	if (own_root_known && own_root.st_dev == seen.st_dev && own_root.st_ino == seen.st_ino)
		return (zone_of_directory(pid));
	len = readlink(link, path, sizeof (path) - 1);
	if (len < 0)
		return (-1);
	path[len] = '\0';
	if ((node = node_enter_current()) == NULL)
		return (-1);
	zoneid = zone_of_root(node, path, &seen);
	node_leave(node);
	return (zoneid);
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
	u->zoneid = zone_of_process(peer.pid);
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
