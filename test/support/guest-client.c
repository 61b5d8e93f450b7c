/*
 * The guest's metadata client: the protocol as a guest's own program speaks it, for tests in a real
 * guest.
 *
 *   guest-client DEVICE get KEY | put KEY [VALUE] | list | delete KEY
 *
 * An independent witness: written from the protocol's description, it shares no line with the agent.
 * It behaves as the tools in guests' images do: exclusive lock on the port, raw mode, whatever is unread
 * thrown away, an active reset (a newline that must bring `invalid command`), NEGOTIATE V2, one byte a
 * read, and the whole session anew after any silence, with a new request id. Without VALUE, put takes
 * its value from stdin.
 *
 * Exit status: 0 done, 1 not found, 2 error, 3 usage. Built static: a guest has no libraries.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "guest-frame.h"

enum { EXIT_FOUND = 0, EXIT_NOTFOUND = 1, EXIT_ERROR = 2, EXIT_USAGE = 3 };

/* What the clients in the field wait: protocol section 11.1. */
#define QUIET_MS 100
#define RESET_MS 2000
#define NEGOTIATE_MS 6000
#define REQUEST_MS 45000
#define RETRY_PAUSE_S 1

/* Room for a value of 2 MiB, encoded twice. */
#define LINE_BYTES (4 * 1024 * 1024)

static char line[LINE_BYTES];

static void
fail(const char *what)
{
	fprintf(stderr, "guest-client: %s: %s\n", what, strerror(errno));
	exit(EXIT_ERROR);
}

static void *
need(void *memory)
{
	if (memory == NULL) {
		fail("memory");
	}
	return (memory);
}

/* One byte a read. Returns 0, or -1 where none came for so long. */
static int
receive(int port, int timeout_ms, char *byte)
{
	struct pollfd wanted = { .fd = port, .events = POLLIN };

	if (poll(&wanted, 1, timeout_ms) <= 0) {
		return (-1);
	}
	return (read(port, byte, 1) == 1 ? 0 : -1);
}

/* Reads a line into `line`, without its LF. The clock starts anew with each byte. */
static int
receive_line(int port, int timeout_ms)
{
	for (size_t length = 0; length < sizeof (line); length++) {
		if (receive(port, timeout_ms, &line[length]) != 0) {
			return (-1);
		}
		if (line[length] == '\n') {
			line[length] = '\0';
			return (0);
		}
	}
	return (-1);
}

static void
send_all(int port, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t sent = write(port, bytes, length);
		if (sent < 0 && errno != EINTR) {
			fail("write");
		}
		if (sent > 0) {
			bytes += sent;
			length -= (size_t)sent;
		}
	}
}

static int
open_port(const char *device)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct termios tio;
	char byte;
	int port = open(device, O_RDWR | O_NOCTTY);

	if (port < 0) {
		fail(device);
	}
	while (fcntl(port, F_SETLKW, &lock) != 0) {
		if (errno != EINTR) {
			fail("lock");
		}
	}
	if (tcgetattr(port, &tio) != 0) {
		fail("tcgetattr");
	}
	cfmakeraw(&tio);
	tio.c_cflag |= CLOCAL | CREAD;
	tio.c_cflag &= ~(tcflag_t)HUPCL;
	if (tcsetattr(port, TCSAFLUSH, &tio) != 0) {
		fail("tcsetattr");
	}
	while (receive(port, QUIET_MS, &byte) == 0) {
		continue;
	}
	return (port);
}

/* Reset and negotiation, as often as it takes. */
static int
open_session(const char *device)
{
	for (;;) {
		int port = open_port(device);

		send_all(port, "\n", 1);
		if (receive_line(port, RESET_MS) == 0 && strcmp(line, "invalid command") == 0) {
			send_all(port, "NEGOTIATE V2\n", 13);
			if (receive_line(port, NEGOTIATE_MS) == 0 && strcmp(line, "V2_OK") == 0) {
				return (port);
			}
		}
		(void) close(port);
		fprintf(stderr, "guest-client: no session, trying again\n");
		(void) sleep(RETRY_PAUSE_S);
	}
}

/*
 * Takes `line` for an answer to `id`. Returns its code, its payload behind it (a place in `line`);
 * NULL where the line is anything else, which is then not for us.
 */
static const char *
parse_answer(const char *id, char **payload)
{
	unsigned long length;
	unsigned int crc;
	int at = 0;
	char *body, *code;

	if (sscanf(line, "V2 %lu %8x %n", &length, &crc, &at) != 2 || at == 0) {
		return (NULL);
	}
	body = line + at;
	if (strlen(body) != length || frame_crc32(body, length) != crc || length < 10 ||
	    strncmp(body, id, 8) != 0 || body[8] != ' ') {
		return (NULL);
	}
	code = body + 9;
	*payload = strchr(code, ' ');
	if (*payload == NULL) {
		*payload = code + strlen(code);
	} else {
		*(*payload)++ = '\0';
	}
	return (code);
}

/* Asks until it is answered. Returns the answer's code; its payload, decoded, is *value. */
static const char *
ask(const char *device, const char *command, const char *payload, char **value, size_t *length)
{
	size_t room = strlen(payload) + 64;
	char *body = need(malloc(room));
	char *frame = need(malloc(room + 64));

	for (;;) {
		int port = open_session(device);
		const char *code = NULL;
		char id[9];
		ssize_t decoded;

		snprintf(id, sizeof (id), "%08x", (unsigned int)random());
		snprintf(body, room, *payload == '\0' ? "%s %s" : "%s %s %s", id, command, payload);
		snprintf(frame, room + 64, "V2 %zu %08x %s\n", strlen(body),
		    frame_crc32(body, strlen(body)), body);
		send_all(port, frame, strlen(frame));
		while (code == NULL && receive_line(port, REQUEST_MS) == 0) {
			code = parse_answer(id, value);
		}
		(void) close(port);
		if (code != NULL) {
			free(body);
			free(frame);
			if ((decoded = frame_unbase64(*value)) < 0) {
				errno = EPROTO;
				fail("payload");
			}
			*length = (size_t)decoded;
			return (code);
		}
		fprintf(stderr, "guest-client: receive timeout, resetting protocol...\n");
	}
}

/* All of stdin; the caller frees it. */
static char *
read_stdin(size_t *length)
{
	char *bytes = need(malloc(LINE_BYTES));

	*length = fread(bytes, 1, LINE_BYTES, stdin);
	return (bytes);
}

static char *
put_payload(const char *key, const char *given)
{
	size_t length = given == NULL ? 0 : strlen(given);
	char *bytes = given == NULL ? read_stdin(&length) : need(strdup(given));
	char *key64 = need(frame_base64(key, strlen(key)));
	char *value64 = need(frame_base64(bytes, length));
	size_t room = strlen(key64) + strlen(value64) + 2;
	char *both = need(malloc(room));
	char *payload;

	snprintf(both, room, "%s %s", key64, value64);
	payload = need(frame_base64(both, strlen(both)));
	free(both);
	free(value64);
	free(key64);
	free(bytes);
	return (payload);
}

static int
usage(void)
{
	fprintf(stderr, "usage: guest-client DEVICE get KEY | put KEY [VALUE] | list | delete KEY\n");
	return (EXIT_USAGE);
}

int
main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[2] : "";
	const char *command, *code;
	char *payload, *value;
	size_t length;
	struct timespec now;

	if (strcmp(verb, "list") == 0 && argc == 3) {
		command = "KEYS";
		payload = need(strdup(""));
	} else if (strcmp(verb, "get") == 0 && argc == 4) {
		command = "GET";
		payload = need(frame_base64(argv[3], strlen(argv[3])));
	} else if (strcmp(verb, "delete") == 0 && argc == 4) {
		command = "DELETE";
		payload = need(frame_base64(argv[3], strlen(argv[3])));
	} else if (strcmp(verb, "put") == 0 && (argc == 4 || argc == 5)) {
		command = "PUT";
		payload = put_payload(argv[3], argc == 5 ? argv[4] : NULL);
	} else {
		return (usage());
	}

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	srandom((unsigned int)now.tv_nsec ^ (unsigned int)getpid() << 16);

	code = ask(argv[1], command, payload, &value, &length);
	free(payload);
	if (strcmp(code, "NOTFOUND") == 0) {
		return (EXIT_NOTFOUND);
	}
	if (strcmp(code, "SUCCESS") != 0) {
		fprintf(stderr, "guest-client: %s: %.*s\n", code, (int)length, value);
		return (EXIT_ERROR);
	}
	/* What a PUT or a DELETE answers is a courtesy, not a value. */
	if (strcmp(verb, "get") == 0 || strcmp(verb, "list") == 0) {
		if (fwrite(value, 1, length, stdout) != length || putchar('\n') == EOF) {
			fail("stdout");
		}
	}
	return (EXIT_FOUND);
}
