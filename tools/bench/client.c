/*
 * The guests of the benchmark: many clients of unix sockets in one process, which must not be what the
 * numbers measure. client.ts builds and runs it.
 *
 *   client MODE SECONDS CONNECTIONS DEPTH MOST PIECE <INPUT
 *
 * MODE: `conn` connects, negotiates, asks once and closes, over and over; `open` keeps its connections
 * and DEPTH requests on each in flight. It ends after SECONDS, or when each connection had MOST answers
 * (0: no bound). PIECE: how many bytes are written and read at once; 0: as many as there are.
 * INPUT: how many requests, the requests, a line each, then a socket's path a line. Connection i goes to
 * socket i modulo their number, and asks the requests in turn.
 *
 * Prints one line of JSON; latencies in microseconds. Exit status 1: something failed, the reason is on stderr.
 */
#define	_GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "measure.h"

#define	NEGOTIATE	"NEGOTIATE V2\n"
#define	EVENTS		256

typedef struct line {
	char *text;
	size_t length;
} line_t;

typedef struct client {
	int fd;
	int negotiated;
	const char *path;
	unsigned asked;
	unsigned answered;
	double since;
} client_t;

static line_t *lines, *sockets;
static size_t line_count, socket_count;
static unsigned *latencies;
static size_t latency_count, latency_room;
static unsigned long lost;
static size_t piece;

static void
record(double seconds)
{
	if (latency_count == latency_room) {
		latency_room = latency_room == 0 ? 1 << 16 : latency_room * 2;
		latencies = realloc(latencies, latency_room * sizeof (*latencies));
		if (latencies == NULL)
			die("realloc");
	}
	latencies[latency_count++] = seconds * 1e6;
}

static int
by_size(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return ((x > y) - (x < y));
}

static unsigned
percentile(double part)
{
	return (latency_count == 0 ? 0 : latencies[(size_t)((latency_count - 1) * part)]);
}

/* Lines of stdin, their LF kept. */
static line_t *
read_lines(size_t most, size_t *count)
{
	line_t *all = NULL;
	char *text = NULL;
	size_t room = 0;
	ssize_t length;

	for (*count = 0; *count < most && (length = getline(&text, &room, stdin)) > 0; ++*count) {
		all = realloc(all, (*count + 1) * sizeof (*all));
		if (all == NULL)
			die("realloc");
		all[*count].text = text;
		all[*count].length = length;
		text = NULL;
		room = 0;
	}
	return (all);
}

static void
send_all(client_t *c, const char *text, size_t length)
{
	while (length > 0) {
		size_t part = piece > 0 && piece < length ? piece : length;
		ssize_t done = write(c->fd, text, part);

		if (done < 0) {
			struct pollfd wait = { .fd = c->fd, .events = POLLOUT };

			if (errno != EAGAIN)
				die("write");
			(void) poll(&wait, 1, 1000);
			continue;
		}
		text += done;
		length -= done;
	}
}

static void
ask(client_t *c)
{
	const line_t *line = &lines[c->asked++ % line_count];

	send_all(c, line->text, line->length);
}

static void
dial(client_t *c, int epoll)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

	(void) strncpy(address.sun_path, c->path, sizeof (address.sun_path) - 1);
	c->since = now();
	c->negotiated = 0;
	if ((c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0)
		die("socket");
	while (connect(c->fd, (struct sockaddr *)&address, sizeof (address)) != 0) {
		/* The backlog is full. */
		if (errno != EAGAIN)
			die(c->path);
		(void) usleep(20);
	}
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
		die("epoll_ctl");
	send_all(c, NEGOTIATE, strlen(NEGOTIATE));
}

/* @returns whether the client has had all that it wants */
static int
hear(client_t *c, int epoll, int keeps, unsigned depth, unsigned most)
{
	static char buffer[1 << 20];
	size_t room = piece > 0 && piece < sizeof (buffer) ? piece : sizeof (buffer);
	ssize_t got = read(c->fd, buffer, room);
	char *at = buffer;

	if (got < 0 && errno == EAGAIN)
		return (0);
	if (got <= 0) {
		lost++;
		(void) close(c->fd);
		dial(c, epoll);
		return (0);
	}
	while ((at = memchr(at, '\n', buffer + got - at)) != NULL) {
		at++;
		if (!c->negotiated) {
			c->negotiated = 1;
			if (keeps)
				c->since = now();
			while (depth-- > 0)
				ask(c);
			return (0);
		}
		record(now() - c->since);
		c->answered++;
		if (most > 0 && c->answered >= most) {
			(void) close(c->fd);
			return (1);
		}
		if (!keeps) {
			(void) close(c->fd);
			dial(c, epoll);
			return (0);
		}
		c->since = now();
		ask(c);
	}
	return (0);
}

int
main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	unsigned connections, depth, most, left, i;
	int epoll, keeps;
	double start, end;
	client_t *clients;
	line_t *count;
	size_t one;

	if (argc != 7) {
		(void) fprintf(stderr, "client MODE SECONDS CONNECTIONS DEPTH MOST PIECE\n");
		return (2);
	}
	keeps = strcmp(argv[1], "open") == 0;
	connections = left = atoi(argv[3]);
	depth = keeps ? atoi(argv[4]) : 1;
	most = atoi(argv[5]);
	piece = atoi(argv[6]);
	count = read_lines(1, &one);
	lines = read_lines(one == 1 ? strtoul(count->text, NULL, 10) : 0, &line_count);
	sockets = read_lines((size_t)-1, &socket_count);
	if (line_count == 0 || socket_count == 0) {
		(void) fprintf(stderr, "no requests, or no sockets\n");
		return (2);
	}
	if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
	    (clients = calloc(connections, sizeof (*clients))) == NULL)
		die("start");
	for (i = 0; i < socket_count; i++)
		sockets[i].text[strcspn(sockets[i].text, "\n")] = '\0';
	start = now();
	end = start + atof(argv[2]);
	for (i = 0; i < connections; i++) {
		clients[i].path = sockets[i % socket_count].text;
		clients[i].asked = i;
		dial(&clients[i], epoll);
	}
	while (left > 0 && now() < end) {
		int ready = epoll_wait(epoll, events, EVENTS, 100), k;

		for (k = 0; k < ready; k++)
			left -= hear(events[k].data.ptr, epoll, keeps, depth, most);
	}
	end = now();
	qsort(latencies, latency_count, sizeof (*latencies), by_size);
	(void) printf("{\"requests\":%zu,\"seconds\":%.6f,\"p50_us\":%u,\"p99_us\":%u,\"longest_us\":%u,\"lost\":%lu}\n",
	    latency_count, end - start, percentile(0.5), percentile(0.99), percentile(1), lost);
	return (0);
}
