/*
 * See node_channel.h.
 */
/* On illumos only the sockets of XPG4.2 pass descriptors. */
#if defined(__sun) && !defined(_XOPEN_SOURCE)
#define	_XOPEN_SOURCE	600
#endif
#include "feature_macros.h"

#include "node_channel.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Longer than any message of ours. */
#define	LINE_BYTES	8192

int
node_channel_fd(void)
{
	const char *fd = getenv("NODE_CHANNEL_FD");

	return (fd == NULL ? -1 : atoi(fd));
}

int
node_channel_send(int fd, const char *json, int passed)
{
	char line[LINE_BYTES], control[CMSG_SPACE(sizeof (int))];
	struct pollfd room = { fd, POLLOUT, 0 };
	struct iovec iov;
	struct msghdr msg;
	ssize_t sent;

	iov.iov_base = line;
	iov.iov_len = (size_t)snprintf(line, sizeof (line), passed < 0 ? "%s\n" :
	    "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":%s}\n", json);
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
	while (iov.iov_len > 0) {
		if ((sent = sendmsg(fd, &msg, 0)) >= 0) {
			iov.iov_base = (char *)iov.iov_base + sent;
			iov.iov_len -= (size_t)sent;
			msg.msg_control = NULL;
			msg.msg_controllen = 0;
		} else if (errno == EAGAIN || errno == EINTR) {
			(void) poll(&room, 1, -1);
		} else {
			return (-1);
		}
	}
	return (0);
}
