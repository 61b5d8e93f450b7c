/*
 * zport: the process that listens at a simulated guest's serial port, in the zone.
 *
 *   zport ROOT PATH
 *
 * It goes to the zone's root, where ucred.c finds it to be one of the zone's, listens at PATH (below ROOT),
 * and hands each connection over on the channel that node made (NODE_CHANNEL_FD), so that simcn simulates the
 * port; a first message without one says that it listens. It ends with its input, or with the channel.
 * An old file is removed, its own stays behind: as the platform's hypervisors do.
 */
#define	_GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../node_channel.h"

/* bhyve's; qemu's is as small. */
#define	BACKLOG	1

/* False at the end of it. */
static int
drain(int fd)
{
	char bytes[1024];
	ssize_t got;

	do {
		got = recv(fd, bytes, sizeof (bytes), MSG_DONTWAIT);
	} while (got > 0 || (got < 0 && errno == EINTR));
	return (got < 0 && errno == EAGAIN);
}

int
main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int channel = node_channel_fd(), listener, host;

	if (argc != 3 || channel < 0 || strlen(argv[2]) >= sizeof (address.sun_path))
		return (2);
	(void) strcpy(address.sun_path, argv[2]);
	(void) unlink(argv[2]);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (chdir(argv[1]) != 0 || listener < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof (address)) != 0 ||
	    listen(listener, BACKLOG) != 0) {
		perror(argv[2]);
		return (1);
	}
	if (node_channel_send(channel, "{\"listening\":true}", -1) != 0)
		return (1);
	for (;;) {
		struct pollfd polled[3] = {
			{ listener, POLLIN, 0 }, { channel, POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 }
		};

		if (poll(polled, 3, -1) < 0 && errno != EINTR)
			return (1);
		if (polled[2].revents != 0 || (polled[1].revents != 0 && !drain(channel)))
			return (0);
		host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (host < 0)
			continue;
		if (node_channel_send(channel, "{}", host) != 0)
			return (1);
		(void) close(host);
	}
}
