/*
 * zport: the process that listens at a simulated guest's serial port, in the zone.
 *
 *   zport ROOT PATH
 *
 * It goes to the zone's root, where ucred.c finds it to be one of the zone's, listens at PATH (below ROOT),
 * and hands each connection over on the channel that node made (NODE_CHANNEL_FD), so that simcn plays the
 * port; a first message without one says that it listens. It ends with its input, or with the channel.
 * An old file is removed, its own stays behind: as the platform's hypervisors do.
 */
#define	_GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* bhyve's; qemu's is as small. */
#define	BACKLOG	1

static int channel;

/* A message for node, with a descriptor, or without one (-1). */
static int
tell(const char *json, int passed)
{
	char control[CMSG_SPACE(sizeof (int))];
	struct iovec iov = { (void *)(uintptr_t)json, strlen(json) };
	struct msghdr msg;

	(void) memset(&msg, 0, sizeof (msg));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	if (passed >= 0) {
		struct cmsghdr *header;

		(void) memset(control, 0, sizeof (control));
		msg.msg_control = control;
		msg.msg_controllen = sizeof (control);
		header = CMSG_FIRSTHDR(&msg);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof (int));
		(void) memcpy(CMSG_DATA(header), &passed, sizeof (int));
	}
	for (;;) {
		struct pollfd room = { channel, POLLOUT, 0 };

		if (sendmsg(channel, &msg, 0) >= 0)
			return (0);
		if (errno != EAGAIN && errno != EINTR)
			return (-1);
		(void) poll(&room, 1, -1);
	}
}

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
	const char *fd = getenv("NODE_CHANNEL_FD");
	int listener, host;

	if (argc != 3 || fd == NULL || strlen(argv[2]) >= sizeof (address.sun_path))
		return (2);
	channel = atoi(fd);
	(void) strcpy(address.sun_path, argv[2]);
	(void) unlink(argv[2]);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (chdir(argv[1]) != 0 || listener < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof (address)) != 0 ||
	    listen(listener, BACKLOG) != 0) {
		perror(argv[2]);
		return (1);
	}
	if (tell("{\"listening\":true}\n", -1) != 0)
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
		if (tell("{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{}}\n", host) != 0)
			return (1);
		(void) close(host);
	}
}
