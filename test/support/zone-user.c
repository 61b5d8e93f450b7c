/*
 * A user of a native zone who connects to its metadata socket as illumos lets him: `zone-user UID PATH
 * LINE...`. Started as root, in the zone's own view.
 *
 * There a plain connect asks for search permission on the directories of the path, and for none on the
 * socket itself (uts/common/fs/sockfs/socksubr.c, so_ux_lookup: VOP_ACCESS only where checkaccess is set,
 * which is for XPG4_2 and lx programs). Linux asks for write permission on the socket. So this checks the
 * directories as the user and then connects past the mode of the file; the credential that the other end
 * sees is the user's.
 *
 * Prints the answer to each line, or what refused it: the errno's name, or `closed`.
 */
#define	_GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int
may_search(const char *path)
{
	char above[sizeof (((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	(void) strcpy(above, path);
	for (slash = strchr(above + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (faccessat(AT_FDCWD, above, X_OK, AT_EACCESS) != 0)
			return (0);
		*slash = '/';
	}
	return (1);
}

/* One line of the answer. 0: the other end has closed. */
static int
print_line(int fd)
{
	char c;

	while (read(fd, &c, 1) == 1) {
		(void) putchar(c);
		if (c == '\n')
			return (1);
	}
	return (0);
}

int
main(int argc, char **argv)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	uid_t uid;
	int fd, i;

	if (argc < 4 || strlen(argv[2]) >= sizeof (to.sun_path))
		return (2);
	uid = (uid_t)strtoul(argv[1], NULL, 10);
	(void) strcpy(to.sun_path, argv[2]);
	if (setegid(uid) != 0 || seteuid(uid) != 0)
		return (2);
	if (!may_search(to.sun_path)) {
		(void) printf("EACCES\n");
		return (1);
	}
	/* Root's way past the mode of a file; the effective uid stays the user's. */
	(void) setfsuid(0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof (to)) != 0) {
		(void) printf("%s\n", strerrorname_np(errno));
		return (1);
	}
	for (i = 3; i < argc; i++) {
		size_t len = strlen(argv[i]);

		if (send(fd, argv[i], len, MSG_NOSIGNAL) != (ssize_t)len ||
		    send(fd, "\n", 1, MSG_NOSIGNAL) != 1 || !print_line(fd)) {
			(void) printf("closed\n");
			return (1);
		}
	}
	return (0);
}
