/*
 * Asks on one connection again and again, and reads as the platform's own client does on SmartOS: it
 * waits for the first byte of a reply, and not at all for any other.
 *
 *   impatient-client SOCKET TIMES <REQUEST      one line
 *
 * Prints how many replies paused, and how many bytes each of them had so far.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How long that client waits for the first byte. */
#define	FIRST_BYTE_MS	45000

static int
dial(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void) snprintf(address.sun_path, sizeof (address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof (address)) != 0) {
		perror(path);
		exit(1);
	}
	return (fd);
}

/* Reads one reply to its LF. Returns how many bytes there were when the first pause came, or -1. */
static long
read_reply(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	long bytes = 0, paused = -1;
	char byte = 0;

	while (byte != '\n') {
		if (poll(&poll_fd, 1, bytes == 0 ? FIRST_BYTE_MS : 0) == 0) {
			if (bytes == 0)
				exit(2);
			if (paused < 0)
				paused = bytes;
			/* To have the connection for the next request. */
			(void) poll(&poll_fd, 1, FIRST_BYTE_MS);
		}
		if (read(fd, &byte, 1) != 1)
			exit(3);
		bytes++;
	}
	return (paused);
}

int
main(int argc, char **argv)
{
	static char request[4096];
	size_t length = fread(request, 1, sizeof (request), stdin);
	int left, pauses = 0, fd;
	long paused;

	if (argc != 3)
		return (1);
	fd = dial(argv[1]);
	for (left = atoi(argv[2]); left > 0; left--) {
		if (write(fd, request, length) != (ssize_t)length)
			return (1);
		if ((paused = read_reply(fd)) >= 0) {
			(void) printf("%ld ", paused);
			pauses++;
		}
	}
	(void) printf("%d\n", pauses);
	return (0);
}
