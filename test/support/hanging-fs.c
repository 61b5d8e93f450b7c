/*
 * A file system that never answers: what a guest can mount below its zone's root.
 *
 *   hanging-fs DIR
 *
 * It says "up" on stdout when it is mounted, takes every request of the kernel and answers none: whoever
 * looks there is held, and no signal ends him, until a line comes on stdin. Then what is held fails with
 * EIO, the mount goes, and the program with it. It speaks the kernel's own protocol (linux/fuse.h).
 */
#define	_GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static char request[1 << 18];

int
main(int argc, char **argv)
{
	struct {
		struct fuse_out_header header;
		struct fuse_init_out init;
	} up;
	const struct fuse_in_header *in = (const struct fuse_in_header *)request;
	char options[128];
	int fd;

	if (argc != 2 || (fd = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0) {
		perror("/dev/fuse");
		return (1);
	}
	(void) snprintf(options, sizeof (options),
	    "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions", fd);
	if (mount("hanging", argv[1], "fuse.hanging", MS_NOSUID | MS_NODEV, options) != 0) {
		perror(argv[1]);
		return (1);
	}
	if (read(fd, request, sizeof (request)) < 0 || in->opcode != FUSE_INIT)
		return (1);
	(void) memset(&up, 0, sizeof (up));
	up.header.len = sizeof (up);
	up.header.unique = in->unique;
	up.init.major = FUSE_KERNEL_VERSION;
	up.init.minor = 31;
	up.init.max_write = 4096;
	if (write(fd, &up, sizeof (up)) < 0)
		return (1);
	(void) puts("up");
	(void) fflush(stdout);
	for (;;) {
		struct pollfd polled[2] = { { fd, POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };

		(void) poll(polled, 2, -1);
		if (polled[1].revents != 0)
			break;
		/* Read, so that not even SIGKILL ends the caller any more; never answered. */
		if (polled[0].revents != 0 && read(fd, request, sizeof (request)) < 0 && errno != EINTR &&
		    errno != ENOENT && errno != EAGAIN)
			break;
	}
	(void) umount2(argv[1], MNT_DETACH);
	(void) close(fd);
	return (0);
}
