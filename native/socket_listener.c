/*
 * See socket_listener.h.
 *
 * A listener never stops because one client could not be accepted. Without a descriptor for it, the
 * client is refused by the one that is kept for this; without that, or without memory, the listener backs off.
 */
#include "feature_macros.h"

#include "socket_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "socket_connection.h"

/* Connections of one listener that are accepted in one batch; and where other sockets found no room in it. */
#define	MAX_ACCEPTS	64
#define	FAIR_ACCEPTS	4
/* A listener that cannot accept would keep the loop busy with trying. */
#define	BACK_OFF_MS		100
/* Of the files that are bound. */
#define	SOCKET_MODE	0600

static void on_incoming(uv_poll_t *poll, int status, int events);

void
socket_listeners_open(sockets_t *sockets)
{
	sockets->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	(void) uv_timer_init(sockets->loop, &sockets->back_off);
	uv_unref((uv_handle_t *)&sockets->back_off);
	sockets->back_off.data = sockets;
	sockets->handles++;
}

void
socket_listeners_close(sockets_t *sockets, uv_close_cb closed)
{
	if (sockets->spare_fd >= 0)
		(void) close(sockets->spare_fd);
	uv_close((uv_handle_t *)&sockets->back_off, closed);
}

/*
 * The connection that an accepted descriptor becomes. 0 or -errno; then the descriptor is closed. What its client has
 * sent by now is read at once: the next poll would be needed only to learn that it is there.
 */
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
		slot_happens(slot, SOCKET_ACCEPTED);
		connection_read_early(slot);
		return (0);
	}
	slot_close(slot);
	return (err);
}

/* Without this the client would wait. @returns whether there was one, and it is gone */
static int
refuse_client(slot_t *listener)
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
on_backed_off(uv_timer_t *timer)
{
	sockets_t *sockets = timer->data;
	size_t id;
	slot_t *slot;

	for (id = 0; id < sockets->shared.max_ids; id++) {
		slot = sockets->slots[id];
		if (slot == NULL || !slot->backing_off || slot->closing)
			continue;
		slot->backing_off = 0;
		(void) uv_poll_start(&slot->u.poll, UV_READABLE, on_incoming);
	}
}

static void
back_off(slot_t *listener)
{
	uv_timer_t *timer = &listener->sockets->back_off;

	(void) uv_poll_stop(&listener->u.poll);
	listener->backing_off = 1;
	if (!uv_is_active((uv_handle_t *)timer))
		(void) uv_timer_start(timer, on_backed_off, BACK_OFF_MS, 0);
}

/*
 * How many connections to ask for. To ask once more than there are makes the kernel build a socket and throw it away, and
 * most clients come alone: so it is one, and twice as many each time that the batch before had as many as were asked for.
 */
static int
accepts_of(slot_t *listener)
{
	const inbox_t *inbox = &listener->sockets->inbox;
	int most = inbox->has_waiters ? FAIR_ACCEPTS : MAX_ACCEPTS;
	int goes_on = listener->pass + 1 == inbox->pass && listener->accepted > 0 &&
	    listener->accepted == listener->accepts;

	listener->accepts = goes_on ? 2 * listener->accepts : 1;
	if (listener->accepts > most)
		listener->accepts = most;
	listener->accepted = 0;
	return (listener->accepts);
}

static void
on_incoming(uv_poll_t *poll, int status, int events)
{
	slot_t *listener = (slot_t *)poll;
	inbox_t *inbox = &listener->sockets->inbox;
	int accepts, fd, err = status;

	(void) events;
	if (!batch_admits(listener, 0))
		return;
	accepts = accepts_of(listener);
	for (; err == 0 && accepts > 0 && inbox->taken < BATCH_READS; accepts--) {
		fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			inbox->taken += BATCH_ACCEPT;
			listener->pass = inbox->pass;
			listener->accepted++;
			err = admit(listener, fd);
			continue;
		}
		err = -errno;
		/* A client that is gone again; systems differ in the errno. */
		if (err == -EINTR || err == -ECONNABORTED || err == -EPROTO)
			err = 0;
	}
	if (err == 0 || err == -EAGAIN || err == -EWOULDBLOCK)
		return;
	listener->err = -err;
	slot_happens(listener, SOCKET_ACCEPT_FAILED);
	if ((err != -EMFILE && err != -ENFILE) || !refuse_client(listener))
		back_off(listener);
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
socket_listen(sockets_t *sockets, const char *path, int backlog)
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
