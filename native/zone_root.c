/*
 * The program that goes below a zone's root in the place of the agent (src/platform/zone-root.ts).
 *
 * What lies there is the zone's to arrange: a link to another zone's socket, or a file system that never
 * answers. A process that names a path below it may be stuck in the kernel for ever, and no signal ends it there.
 * So it is done in a process of its own, one request at a time; the agent starts others for other zones, and
 * ends whenever it likes.
 *
 *   zone_root NODE
 *
 *   request  4 strings on descriptor 4, each with its NUL: command, zone's root, path inside it, special
 *   reply    a line of JSON on the channel that node made (NODE_CHANNEL_FD), with a descriptor for `dial`
 *
 *     find    where a port is, and that nothing but real directories led there
 *     dial    the same, and a socket that is connected to it
 *     stat    the directory at the path
 *     mount   lofs of `special` at the path, whose directories are made where they are missing
 *     unmount what the mount table has at the path, which is a whole one
 *
 * It walks from directory to directory by descriptors and follows no link. It ends when the agent closes
 * its end. Everything runs on one thread: the working directory is where the last walk ended.
 */
#include "feature_macros.h"

#if defined(__sun)
#include <sys/mount.h>
#else
#include "emul/illumos.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "node_channel.h"
#include "zone_walk.h"

#if defined(__sun)
#define	OPTIONSTR	MS_OPTIONSTR
#else
#define	OPTIONSTR	ILLUMOS_MS_OPTIONSTR
#endif

#define	REQUEST_FD	4
#define	FIELDS		4
#define	FIELD_BYTES	ZONE_PATH_BYTES
#define	OPTION_BYTES	1024
/* The set that the platform's brands use: a zone reads its directory, and nothing more. */
#define	MOUNT_OPTIONS	"ro,nodevices,nosetuid,noexec"
#define	CONNECT_MS	2000
/* Whether a zone may be mounted into was asked before; later than this the answer may be another. */
#define	MOUNT_WITHIN_NS	500000000LL
/* Who stats a path holds a mount for a moment. Together less than the time after which we count as hung. */
#define	UNMOUNT_TRIES	5
#define	UNMOUNT_WAIT_MS	40

typedef struct request {
	const char *command;
	const char *root;
	const char *path;
	const char *special;
} request_t;

static int
reply_fd(void)
{
	int fd = node_channel_fd();

	return (fd < 0 ? STDOUT_FILENO : fd);
}

/* The identity is that of a port that was found and that nobody could be reached at. */
static void
reply_fault(const fault_t *fault, const walk_t *walk)
{
	char json[256];

	(void) snprintf(json, sizeof (json),
	    "{\"err\":%d,\"call\":\"%s\",\"depth\":%d,\"identity\":\"%s\"}", fault->err,
	    fault->call, fault->depth, walk->identity);
	if (node_channel_send(reply_fd(), json, -1) != 0)
		exit(1);
}

static void
reply_found(const walk_t *walk, int passed)
{
	char json[256];

	(void) snprintf(json, sizeof (json),
	    "{\"err\":0,\"identity\":\"%s\",\"dev\":\"%llu\",\"ino\":\"%llu\"}", walk->identity,
	    (unsigned long long)walk->found.st_dev, (unsigned long long)walk->found.st_ino);
	if (node_channel_send(reply_fd(), json, passed) != 0)
		exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return ((int64_t)now.tv_sec * 1000000000LL + now.tv_nsec);
}

/*
 * Connects from the directory that was walked to: a mount over its name, or a link in the place of it,
 * changes nothing any more. There is no connectat; fchdir and a name alone come to the same.
 */
static int
connect_from(const walk_t *walk, fault_t *fault)
{
	const char *name = walk->components[walk->count - 1];
	struct sockaddr_un address;
	struct pollfd poller;
	int fd, err = 0;
	socklen_t len = sizeof (err);

	(void) memset(&address, 0, sizeof (address));
	address.sun_family = AF_UNIX;
	if (strlen(name) >= sizeof (address.sun_path))
		return (walk_failed(fault, ENAMETOOLONG, "connect", walk->count));
	(void) memcpy(address.sun_path, name, strlen(name));
	if (fchdir(walk->dirs[walk->depth - 1]) != 0)
		return (walk_failed(fault, errno, "connect", walk->count));
	/* Not blocking: a hypervisor's backlog is 1, and who fills it must not hold us. */
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0)
		return (walk_failed(fault, errno, "socket", walk->count));
	if (connect(fd, (const struct sockaddr *)&address, sizeof (address)) != 0) {
		err = errno;
		if (err == EINPROGRESS) {
			poller.fd = fd;
			poller.events = POLLOUT;
			err = poll(&poller, 1, CONNECT_MS) == 1 &&
			    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? err : EAGAIN;
		}
		if (err != 0) {
			(void) close(fd);
			return (walk_failed(fault, err, "connect", walk->count));
		}
	}
	return (fd);
}

static int
dial(walk_t *walk, const request_t *request, fault_t *fault)
{
	static walk_t after;
	int fd, same;

	if (walk_to(walk, request->root, request->path, WALK_SOCKET, fault) != 0 || (fd = connect_from(walk, fault)) < 0)
		return (-1);
	/*
	 * What answered is the file that was found, reached through the same parents: in between a process of the
	 * zone could have put a link in its place, and have removed it again.
	 */
	same = walk_to(&after, request->root, request->path, WALK_SOCKET, fault) == 0;
	if (same && (strcmp(walk->parents, after.parents) != 0 || strcmp(walk->identity, after.identity) != 0)) {
		(void) walk_failed(fault, ESTALE, "connect", walk->count);
		same = 0;
	}
	walk_end(&after);
	if (!same) {
		(void) close(fd);
		return (-1);
	}
	return (fd);
}

/*
 * mount(2) follows links, so all that leads there is seen to be real before it, and the mount to be in its
 * place after it. Whoever asks has seen to it that no process of the zone runs.
 */
static int
mount_into(walk_t *walk, const request_t *request, fault_t *fault)
{
	char dir[2 * FIELD_BYTES], options[OPTION_BYTES] = MOUNT_OPTIONS;
	int64_t began = now_ns();
	struct stat special;
	int err;

	if (stat(request->special, &special) != 0)
		return (walk_failed(fault, errno, "stat", 0));
	if (walk_to(walk, request->root, request->path, WALK_MAKE_DIRECTORY, fault) != 0)
		return (-1);
	walk_end(walk);
	if (now_ns() - began > MOUNT_WITHIN_NS)
		return (walk_failed(fault, ETIMEDOUT, "mount", walk->count));
	(void) snprintf(dir, sizeof (dir), "%s%s", request->root, request->path);
	if (mount(request->special, dir, OPTIONSTR, "lofs", (char *)NULL, 0, options,
	    (int)sizeof (options)) != 0)
		return (walk_failed(fault, errno, "mount", walk->count));
	err = walk_to(walk, request->root, request->path, WALK_DIRECTORY, fault);
	/* A lofs shows the inode of what it is mounted from: lofs_subr.c and lofs_vnops.c, lo_getattr. */
	if (err == 0 && (walk->found.st_dev != special.st_dev || walk->found.st_ino != special.st_ino))
		err = walk_failed(fault, ESTALE, "mount", walk->count);
	else if (err != 0)
		(void) walk_failed(fault, ESTALE, "mount", fault->depth);
	return (err);
}

/*
 * The path is one that the table has. The platform takes it for that mount without looking it up (umount.c,
 * umount2): no link of the zone leads elsewhere. Never by force, which a lofs refuses; and it is busy while anybody
 * holds a file of it (lofs_vfsops.c, lo_unmount).
 */
static int
unmount(const char *path, fault_t *fault)
{
	int tries;

	for (tries = 1; umount2(path, 0) != 0; tries++) {
		if (errno != EBUSY || tries == UNMOUNT_TRIES)
			return (walk_failed(fault, errno, "umount2", 0));
		(void) poll(NULL, 0, UNMOUNT_WAIT_MS);
	}
	return (0);
}

static void
serve(const request_t *request)
{
	static walk_t walk;
	fault_t fault = { 0, "", 0 };
	int err = -1, fd = -1;

	walk.depth = 0;
	walk.identity[0] = '\0';
	walk.parents[0] = '\0';
	if (strcmp(request->command, "find") == 0) {
		err = walk_to(&walk, request->root, request->path, WALK_SOCKET, &fault);
	} else if (strcmp(request->command, "dial") == 0) {
		err = (fd = dial(&walk, request, &fault)) < 0 ? -1 : 0;
	} else if (strcmp(request->command, "stat") == 0) {
		/*
		 * The lofs is held for as long as the walk takes. A zoneadmd that unmounts it just then gets EBUSY, is
		 * refused by force, and is through two seconds later (vplat.c, unmount_filesystems): so this is asked
		 * for running zones only, and once a minute.
		 */
		err = walk_to(&walk, request->root, request->path, WALK_DIRECTORY, &fault);
	} else if (strcmp(request->command, "mount") == 0) {
		err = mount_into(&walk, request, &fault);
	} else if (strcmp(request->command, "unmount") == 0) {
		err = unmount(request->path, &fault);
	} else {
		(void) walk_failed(&fault, ENOSYS, request->command, 0);
	}
	walk_end(&walk);
	/* Nothing of the zone is held while there is nothing to do. */
	(void) chdir("/");
	if (err != 0)
		reply_fault(&fault, &walk);
	else
		reply_found(&walk, fd);
	if (fd >= 0)
		(void) close(fd);
}

/* What node says on the channel: that it got the descriptor. False at its end. */
static int
drain_channel(void)
{
	char bytes[1024];
	ssize_t got;

	do {
		got = recv(reply_fd(), bytes, sizeof (bytes), MSG_DONTWAIT);
	} while (got > 0 || (got < 0 && errno == EINTR));
	return (got < 0 && errno == EAGAIN);
}

int
main(int argc, char **argv)
{
	static char bytes[FIELDS * FIELD_BYTES];
	size_t used = 0;

	if (argc != 2)
		return (2);
#if !defined(__sun)
	zonecfg_set_root(argv[1]);
#else
	/* There is one node, and its root is ours. */
	(void) argv;
#endif
	/* Sockets and directories only: it never holds a file of the agent, nor its terminal. */
	(void) chdir("/");
	for (;;) {
		struct pollfd pollers[2];
		const char *fields[FIELDS];
		request_t request;
		size_t at;
		ssize_t got;
		int count;

		pollers[0].fd = REQUEST_FD;
		pollers[0].events = POLLIN;
		pollers[1].fd = reply_fd();
		pollers[1].events = POLLIN;
		if (poll(pollers, 2, -1) < 0 && errno != EINTR)
			return (1);
		if (pollers[1].revents != 0 && !drain_channel())
			return (0);
		if (pollers[0].revents == 0)
			continue;
		got = read(REQUEST_FD, bytes + used, sizeof (bytes) - used);
		if (got <= 0)
			return (0);
		used += (size_t)got;
		for (count = 0, at = 0; at < used && count < FIELDS; at++) {
			if (at == 0 || bytes[at - 1] == '\0')
				fields[count] = &bytes[at];
			if (bytes[at] == '\0')
				count++;
		}
		if (count < FIELDS) {
			if (used == sizeof (bytes))
				return (2);
			continue;
		}
		request.command = fields[0];
		request.root = fields[1];
		request.path = fields[2];
		request.special = fields[3];
		/* The next request comes only after the reply. */
		used = 0;
		serve(&request);
	}
}
