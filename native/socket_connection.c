/*
 * See socket_connection.h.
 *
 * A write goes to the kernel at once, from where the reader put it. Only what the kernel has no room for
 * is copied; later writes wait behind it in libuv's queue.
 *
 * A large write has memory of its own, a mapping, so that it is not copied and that its pages are the
 * system's again when it is done, whatever the allocator would make of them. It should leave whole: the
 * platform's own client takes a pause within a reply for its end. What a kernel takes at once:
 *
 *   Linux     as much as the send buffer has room for. It is widened for this write alone, so that no
 *             peer can make the kernel hold more than one large reply and the usual.
 *   illumos   two messages of 64 KiB (strmsgsz, conf/param.c): strwrite_common of os/streamio.c goes on
 *             while canputnext says so; the first message fills the stream head of the peer (STRHIGH,
 *             sys/stream.h), the second one the queue of the transport (TL_HIWAT, io/tl.c; tl_data puts
 *             it back while the peer is full). SO_SNDBUF changes none of it: sotpi_setsockopt of
 *             fs/sockfs/socktpi.c records the number, and io/tl.c never asks for it. So what is left goes
 *             when the peer has read down to STRLOW; it has all of the second message to read meanwhile.
 */
#include "feature_macros.h"

#include "socket_connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/ioctl.h>
#include <sys/socket.h>
#endif

/* Writes above this are widened for; the usual send buffer takes those below. */
#define	LARGE_BYTES	(64 * 1024)
/* The widest send buffer that is asked for. */
#define	MAX_SEND_BUFFER	(8 * 1024 * 1024)

typedef struct pending_write {
	uv_write_t request;
	/* Of a large write: its mapping. */
	char *large;
	size_t large_bytes;
	char data[];
} pending_write_t;

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	(void) suggested;
	inbox_take((slot_t *)handle, buffer);
}

static void
on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
	slot_t *slot = (slot_t *)stream;

	(void) buffer;
	if (got > 0) {
		inbox_filled(slot, (size_t)got);
	} else if (got == UV_EOF) {
		slot_fails(slot, 0);
	} else if (got == UV_ENOBUFS) {
		/* The inbox's answer to one that must wait; to one that has been read it is to be read again later. */
		if ((slot->happened & SOCKET_BIT(SOCKET_DATA)) != 0)
			return;
		(void) uv_read_stop(stream);
		inbox_wait(slot);
	} else if (got < 0) {
		(void) uv_read_stop(stream);
		slot_fails(slot, (int)got);
	}
}

void
connection_pause(slot_t *slot)
{
	if (slot->listens)
		return;
	slot->wanted = 0;
	(void) uv_read_stop(&slot->u.stream);
}

int
connection_read_on(slot_t *slot)
{
	return (uv_read_start(&slot->u.stream, on_alloc, on_read));
}

int
connection_resume(slot_t *slot)
{
	if (slot->listens)
		return (0);
	slot->wanted = 1;
	return (slot->waits ? 0 : connection_read_on(slot));
}

void
connection_read_early(slot_t *slot)
{
	uv_buf_t buffer;
	ssize_t got;

	inbox_take(slot, &buffer);
	if (buffer.len == 0)
		return;
	/* The poll phase meets the end, and an interruption is met by reading again there. */
	got = read(slot->fd, buffer.base, buffer.len);
	if (got > 0) {
		inbox_filled(slot, (size_t)got);
	} else if (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		got = -errno;
		(void) uv_read_stop(&slot->u.stream);
		slot_fails(slot, (int)got);
	}
}

static size_t
buffered(const slot_t *slot)
{
	return (slot->listens ? 0 : uv_stream_get_write_queue_size(&slot->u.stream));
}

static void
publish_buffered(const slot_t *slot)
{
	slot->sockets->shared.buffered[slot->id] = (uint32_t)buffered(slot);
}

static void
on_written(uv_write_t *request, int status)
{
	slot_t *slot = (slot_t *)request->handle;
	pending_write_t *pending = request->data;

	if (pending->large != NULL)
		(void) munmap(pending->large, pending->large_bytes);
	free(pending);
	publish_buffered(slot);
	if (slot->closing)
		return;
	if (status != 0)
		slot_fails(slot, status);
	else
		slot_happens(slot, SOCKET_DRAIN);
	if (slot->ending && buffered(slot) == 0)
		slot_close(slot);
}

/* What the kernel does not take now is kept and written when it does. */
static void
write_later(slot_t *slot, const char *data, size_t length)
{
	pending_write_t *pending = malloc(sizeof (*pending) + length);
	uv_buf_t buffer;
	int err;

	if (pending == NULL) {
		slot_fails(slot, -ENOMEM);
		return;
	}
	pending->large = NULL;
	(void) memcpy(pending->data, data, length);
	pending->request.data = pending;
	buffer = uv_buf_init(pending->data, (unsigned)length);
	err = uv_write(&pending->request, &slot->u.stream, &buffer, 1, on_written);
	if (err != 0) {
		free(pending);
		slot_fails(slot, err);
	}
	publish_buffered(slot);
}

/* Gives the kernel what it takes now. @returns how much that was, or -errno */
static int
write_now(slot_t *slot, const char *data, size_t length)
{
	uv_buf_t buffer = uv_buf_init((char *)data, (unsigned)length);
	int done;

	/* Lengths of libuv's have 32 bits, and so have those of `buffered`. */
	if (length > INT32_MAX)
		return (-EMSGSIZE);
	if (buffered(slot) > 0)
		return (0);
	done = uv_try_write(&slot->u.stream, &buffer, 1);
	return (done == UV_EAGAIN ? 0 : done);
}

void
connection_write(slot_t *slot, const char *data, size_t length)
{
	int done;

	if (slot->listens || slot->ending)
		return;
	done = write_now(slot, data, length);
	if (done < 0)
		slot_fails(slot, done);
	else if ((size_t)done < length)
		write_later(slot, data + done, length - (size_t)done);
}

int
connection_reserve(sockets_t *sockets, int32_t id, size_t length)
{
	slot_t *slot = slot_of(sockets, id);
	void *memory;

	if (slot == NULL || slot->listens)
		return (-EBADF);
	if (slot->large != NULL)
		return (-EBUSY);
	memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
	if (memory == MAP_FAILED)
		return (-ENOMEM);
	slot->large = memory;
	slot->large_bytes = length;
	return (0);
}

void
connection_fill(sockets_t *sockets, int32_t id, size_t at, const char *data, size_t length)
{
	slot_t *slot = slot_of(sockets, id);

	if (slot != NULL && slot->large != NULL && at <= slot->large_bytes &&
	    length <= slot->large_bytes - at)
		(void) memcpy(slot->large + at, data, length);
}

#ifdef __linux__
static size_t
undelivered(const slot_t *slot)
{
	int held = 0;

	if (slot->listens || ioctl(slot->fd, TIOCOUTQ, &held) != 0 || held < 0)
		held = 0;
	return (buffered(slot) + (size_t)held);
}

/*
 * Widens the send buffer of a connection for `length` bytes more than it holds, whatever the system's
 * limit for other users (net.core.wmem_max) is. The kernel doubles the number and counts what it needs
 * besides (sock_setsockopt, skb->truesize). @returns what it was, to be set again
 */
static int
widen(const slot_t *slot, size_t length)
{
	socklen_t size = sizeof (int);
	int before = 0, wanted;

	length += undelivered(slot);
	wanted = length < MAX_SEND_BUFFER ? (int)length : MAX_SEND_BUFFER;
	(void) getsockopt(slot->fd, SOL_SOCKET, SO_SNDBUF, &before, &size);
	if (before / 2 < wanted &&
	    setsockopt(slot->fd, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof (wanted)) != 0)
		(void) setsockopt(slot->fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof (wanted));
	return (before / 2);
}

static void
narrow(const slot_t *slot, int before)
{
	(void) setsockopt(slot->fd, SOL_SOCKET, SO_SNDBUF, &before, sizeof (before));
}
#else
static int
widen(const slot_t *slot, size_t length)
{
	(void) slot;
	(void) length;
	return (0);
}

static void
narrow(const slot_t *slot, int before)
{
	(void) slot;
	(void) before;
}

static size_t
undelivered(const slot_t *slot)
{
	return (buffered(slot));
}
#endif

size_t
connection_undelivered(const sockets_t *sockets, int32_t id)
{
	const slot_t *slot = slot_of(sockets, id);

	return (slot == NULL ? 0 : undelivered(slot));
}

/*
 * POLLHUP needs both directions at their end, so a peer that only ended its own keeps its connection: unix_poll of
 * Linux's net/unix/af_unix.c; sotpi_poll of illumos' socktpi.c, which wants SS_CANTRCVMORE and SS_CANTSENDMORE (the
 * second is what so_unix_close of a peer that closes brings about).
 */
int
connection_gone(const sockets_t *sockets, int32_t id)
{
	const slot_t *slot = slot_of(sockets, id);
	struct pollfd polled = { .events = 0, .revents = 0 };

	if (slot == NULL)
		return (1);
	polled.fd = slot->fd;
	return (!slot->listens && poll(&polled, 1, 0) > 0 &&
	    (polled.revents & (POLLHUP | POLLERR)) != 0);
}

/* What is left of a large write goes from where it is, when the kernel takes it. */
static void
write_large_later(slot_t *slot, char *large, size_t large_bytes, size_t from, size_t length)
{
	pending_write_t *pending = malloc(sizeof (*pending));
	uv_buf_t buffer = uv_buf_init(large + from, (unsigned)(length - from));
	int err = -ENOMEM;

	if (pending != NULL) {
		pending->large = large;
		pending->large_bytes = large_bytes;
		pending->request.data = pending;
		err = uv_write(&pending->request, &slot->u.stream, &buffer, 1, on_written);
	}
	if (err != 0) {
		free(pending);
		(void) munmap(large, large_bytes);
		slot_fails(slot, err);
	}
	publish_buffered(slot);
}

void
connection_commit(sockets_t *sockets, int32_t id, size_t length)
{
	slot_t *slot = slot_of(sockets, id);
	char *large = slot == NULL ? NULL : slot->large;
	size_t large_bytes;
	int done, before;

	if (large == NULL)
		return;
	large_bytes = slot->large_bytes;
	if (length == 0 || length > large_bytes || slot->ending) {
		slot_abandon(slot);
		return;
	}
	slot->large = NULL;
	before = length > LARGE_BYTES ? widen(slot, length) : 0;
	done = write_now(slot, large, length);
	if (before > 0)
		narrow(slot, before);
	if (done >= 0 && (size_t)done < length) {
		write_large_later(slot, large, large_bytes, (size_t)done, length);
		return;
	}
	(void) munmap(large, large_bytes);
	if (done < 0)
		slot_fails(slot, done);
}

void
connection_end(slot_t *slot)
{
	slot->ending = 1;
	if (buffered(slot) == 0)
		slot_close(slot);
}
