/*
 * Listening and accepting; sockets_listen of sockets.h is here.
 *
 * A listener never stops because one client could not be accepted. Without a descriptor for him, he is
 * turned away by the one that is kept for this; without that, or without memory, the listener rests.
 */
#define	_GNU_SOURCE
#if defined(__sun) && !defined(__EXTENSIONS__)
#define	__EXTENSIONS__
#endif

#include "socket_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "socket_connection.h"
#include "socket_events.h"
#include "socket_slot.h"

/* Connections of one listener that are accepted in one batch. */
#define	MAX_ACCEPTS	64
/* A listener that cannot accept would keep the loop busy with trying: it rests so long. */
#define	REST_MS		100
/* Of the files that are bound. */
#define	SOCKET_MODE	0600

static void on_incoming(uv_poll_t *poll, int status, int events);

void
socket_listeners_open(sockets_t *sockets)
{
	sockets->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	(void) uv_timer_init(sockets->loop, &sockets->rest);
	uv_unref((uv_handle_t *)&sockets->rest);
	sockets->rest.data = sockets;
	sockets->handles++;
}

void
socket_listeners_close(sockets_t *sockets, uv_close_cb closed)
{
	if (sockets->spare_fd >= 0)
		(void) close(sockets->spare_fd);
	uv_close((uv_handle_t *)&sockets->rest, closed);
}

/* The connection that an accepted descriptor becomes. 0 or -errno; then the descriptor is closed. */
static int
admit(slot_t *listener, int fd)
{
	slot_t *slot;
	int err;

	if ((err = slot_make(listener->sockets, fd, 0, &slot)) != 0) {
		(void) close(fd);
		return (err);
	}
	slot->listener = listener->id;
	if ((err = uv_pipe_open(&slot->u.pipe, fd)) != 0) {
		(void) close(fd);
	} else if ((err = connection_resume(slot)) == 0) {
		socket_happens(slot, SOCKET_ACCEPTED);
		return (0);
	}
	slot_close(slot);
	return (err);
}

/* Without this the client would wait. @returns whether there was one, and it is gone */
static int
turn_away(slot_t *listener)
{
	sockets_t *sockets = listener->sockets;
	int fd;

	if (sockets->spare_fd >= 0)
		(void) close(sockets->spare_fd);
	if ((fd = accept(listener->fd, NULL, NULL)) >= 0)
		(void) close(fd);
	sockets->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return (fd >= 0);
}

static void
on_rested(uv_timer_t *timer)
{
	sockets_t *sockets = timer->data;
	size_t id;
	slot_t *slot;

	for (id = 0; id < sockets->shared.max_ids; id++) {
		slot = sockets->slots[id];
		if (slot == NULL || !slot->resting || slot->closing)
			continue;
		slot->resting = 0;
		(void) uv_poll_start(&slot->u.poll, UV_READABLE, on_incoming);
	}
}

static void
rest(slot_t *listener)
{
	uv_timer_t *timer = &listener->sockets->rest;

	(void) uv_poll_stop(&listener->u.poll);
	listener->resting = 1;
	if (!uv_is_active((uv_handle_t *)timer))
		(void) uv_timer_start(timer, on_rested, REST_MS, 0);
}

static void
on_incoming(uv_poll_t *poll, int status, int events)
{
	slot_t *listener = (slot_t *)poll;
	int left, fd, err = status;

	(void) events;
	for (left = MAX_ACCEPTS; err == 0 && left > 0; left--) {
		fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			err = admit(listener, fd);
			continue;
		}
		err = -errno;
		/* A client that left again; systems differ in the word for it. */
		if (err == -EINTR || err == -ECONNABORTED || err == -EPROTO)
			err = 0;
	}
	if (err == 0 || err == -EAGAIN || err == -EWOULDBLOCK)
		return;
	listener->err = -err;
	socket_happens(listener, SOCKET_UNACCEPTED);
	if ((err != -EMFILE && err != -ENFILE) || !turn_away(listener))
		rest(listener);
}

/* @returns a bound descriptor that listens, or -errno */
static int
listen_at(const char *path, int backlog)
{
	struct sockaddr_un address;
	size_t length = strlen(path);
	int fd, err;

	if (length >= sizeof (address.sun_path))
		return (-ENAMETOOLONG);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
		return (-errno);
	/* Where the kernel makes the file with the socket's own permissions, it never has others. */
	(void) fchmod(fd, SOCKET_MODE);
	(void) memset(&address, 0, sizeof (address));
	address.sun_family = AF_UNIX;
	(void) memcpy(address.sun_path, path, length + 1);
	if (bind(fd, (struct sockaddr *)&address, sizeof (address)) != 0 ||
	    listen(fd, backlog) != 0) {
		err = -errno;
		(void) close(fd);
		return (err);
	}
	return (fd);
}

int
sockets_listen(sockets_t *sockets, const char *path, int backlog)
{
	slot_t *slot;
	int fd, err;

	if ((fd = listen_at(path, backlog)) < 0)
		return (fd);
	if ((err = slot_make(sockets, fd, 1, &slot)) != 0) {
		(void) close(fd);
		return (err);
	}
	if ((err = uv_poll_start(&slot->u.poll, UV_READABLE, on_incoming)) != 0) {
		slot_close(slot);
		return (err);
	}
	return (slot->id);
}
