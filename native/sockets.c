/*
 * See sockets.h.
 *
 * What happened to a slot is kept in the slot, and the slot in a list: an event never needs memory that
 * there may not be, and however much happens, a slot is in the list once.
 */
#define	_GNU_SOURCE
#if defined(__sun) && !defined(__EXTENSIONS__)
#define	__EXTENSIONS__
#endif

#include "sockets.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* What one connection may bring in one batch; the kernel's own buffers hold not much more. */
#define	READ_BYTES	65536
/* Connections of one listener that are accepted in one batch. */
#define	MAX_ACCEPTS	64
/* A listener that cannot accept would keep the loop busy with trying: it rests so long. */
#define	REST_MS		100
/* Of the files that are bound. */
#define	SOCKET_MODE	0600
#define	BIT(event)	(1u << (event))

typedef struct slot {
	/* First: libuv hands out its address. */
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		/* Of a connection. */
		uv_pipe_t pipe;
		/* Of a listener, which accepts by itself: libuv's would stop where there is no memory. */
		uv_poll_t poll;
	} u;
	sockets_t *sockets;
	int32_t id;
	int32_t fd;
	int listens;
	int resting;
	int ending;
	int closing;
	/* The last round in which it was read. */
	unsigned round;
	/* Not delivered yet: bits of events, and what they tell. */
	unsigned happened;
	struct slot *next;
	int32_t listener;
	int32_t err;
	int32_t heard_at;
	int32_t heard;
} slot_t;

struct sockets {
	uv_loop_t *loop;
	sockets_shared_t shared;
	void (*deliver)(void *, size_t);
	void *deliver_arg;
	void (*done)(void *);
	void *done_arg;
	/* Slots to which something happened, in order. */
	slot_t *first;
	slot_t **last;
	size_t inbox_used;
	/*
	 * The poll phase names connections in the same order each time. So that those at its end get their
	 * part of the inbox too, there are rounds: while it is crowded, none is read twice in one.
	 */
	unsigned round;
	int crowded;
	/* One that is still to be read in this round found no room. */
	int refused;
	int delivering;
	/* Given up for a moment to turn a client away where there is no other descriptor. */
	int spare_fd;
	/* Deliver what the poll phase brought, and what came outside of it. */
	uv_check_t check;
	uv_prepare_t prepare;
	/* All listeners that rest go on when it fires. */
	uv_timer_t rest;
	/* Handles of libuv's that are not closed: those three, and one a slot. */
	size_t handles;
	slot_t **slots;
	/* A stack of the ids that nothing has. */
	int32_t *free_ids;
	size_t free_count;
};

typedef struct pending_write {
	uv_write_t request;
	char data[];
} pending_write_t;

static void deliver_all(sockets_t *sockets);

static void
on_check(uv_check_t *check)
{
	deliver_all(check->data);
}

static void
on_prepare(uv_prepare_t *prepare)
{
	deliver_all(prepare->data);
}

static void
arm(sockets_t *sockets)
{
	(void) uv_check_start(&sockets->check, on_check);
	(void) uv_prepare_start(&sockets->prepare, on_prepare);
}

static void
happens(slot_t *slot, socket_event_t event)
{
	sockets_t *sockets = slot->sockets;

	if (sockets->done != NULL)
		return;
	if (slot->happened == 0) {
		if (sockets->first == NULL && !sockets->delivering)
			arm(sockets);
		slot->next = NULL;
		*sockets->last = slot;
		sockets->last = &slot->next;
	}
	slot->happened |= BIT(event);
}

/* The connection is of no more use: its owner is told once, and closes it. */
static void
fails(slot_t *slot, int err)
{
	slot->err = -err;
	happens(slot, SOCKET_ENDED);
}

static void
handle_closed(sockets_t *sockets)
{
	void (*done)(void *) = sockets->done;
	void *arg = sockets->done_arg;

	if (--sockets->handles > 0)
		return;
	free(sockets->free_ids);
	free(sockets->slots);
	free(sockets);
	done(arg);
}

static void
slot_closed(uv_handle_t *handle)
{
	slot_t *slot = (slot_t *)handle;
	sockets_t *sockets = slot->sockets;

	if (sockets->done == NULL) {
		happens(slot, SOCKET_CLOSED);
		return;
	}
	free(slot);
	handle_closed(sockets);
}

static void
own_closed(uv_handle_t *handle)
{
	handle_closed(handle->data);
}

static void
slot_close(slot_t *slot)
{
	if (slot->closing)
		return;
	slot->closing = 1;
	uv_close(&slot->u.handle, slot_closed);
	if (slot->listens)
		(void) close(slot->fd);
}

/* A slot with an id, for a descriptor that is its own then. -errno: it is still the caller's. */
static int
slot_make(sockets_t *sockets, int fd, int listens, slot_t **out)
{
	slot_t *slot;
	int err;

	if (sockets->free_count == 0)
		return (-EMFILE);
	if ((slot = calloc(1, sizeof (*slot))) == NULL)
		return (-ENOMEM);
	/* One that cannot be watched is refused before there is a handle to close. */
	if (listens && (err = uv_poll_init(sockets->loop, &slot->u.poll, fd)) != 0) {
		free(slot);
		return (err);
	}
	if (!listens)
		(void) uv_pipe_init(sockets->loop, &slot->u.pipe, 0);
	sockets->handles++;
	slot->sockets = sockets;
	slot->listens = listens;
	slot->fd = fd;
	slot->id = sockets->free_ids[--sockets->free_count];
	sockets->slots[slot->id] = slot;
	sockets->shared.unsent[slot->id] = 0;
	*out = slot;
	return (0);
}

/* Its CLOSED was delivered. */
static void
slot_free(slot_t *slot)
{
	sockets_t *sockets = slot->sockets;

	sockets->slots[slot->id] = NULL;
	sockets->free_ids[sockets->free_count++] = slot->id;
	sockets->handles--;
	free(slot);
}

static slot_t *
slot_of(const sockets_t *sockets, int32_t id)
{
	slot_t *slot;

	if (id < 0 || (size_t)id >= sockets->shared.max_ids)
		return (NULL);
	slot = sockets->slots[id];
	return (slot == NULL || slot->closing ? NULL : slot);
}

/* Adds the event to the table, if the slot has it. */
static size_t
tell(const slot_t *slot, socket_event_t event, int32_t a, int32_t b, size_t count)
{
	int32_t *entry = slot->sockets->shared.events + SOCKET_INTS * count;

	if ((slot->happened & BIT(event)) == 0)
		return (count);
	entry[0] = event;
	entry[1] = slot->id;
	entry[2] = a;
	entry[3] = b;
	return (count + 1);
}

/* Takes slots from the list as long as the table has room for all that a slot can have to tell. */
static size_t
fill_table(sockets_t *sockets, slot_t **closed)
{
	size_t count = 0;
	slot_t *slot;

	while ((slot = sockets->first) != NULL &&
	    count + SOCKET_CLOSED <= sockets->shared.max_events) {
		if ((sockets->first = slot->next) == NULL)
			sockets->last = &sockets->first;
		count = tell(slot, SOCKET_ACCEPTED, slot->listener, slot->fd, count);
		count = tell(slot, SOCKET_UNACCEPTED, slot->err, 0, count);
		count = tell(slot, SOCKET_HEARD, slot->heard_at, slot->heard, count);
		count = tell(slot, SOCKET_TAKEN, 0, 0, count);
		count = tell(slot, SOCKET_ENDED, slot->err, 0, count);
		count = tell(slot, SOCKET_CLOSED, 0, 0, count);
		slot->next = NULL;
		if ((slot->happened & BIT(SOCKET_CLOSED)) != 0) {
			slot->next = *closed;
			*closed = slot;
		}
		slot->happened = 0;
	}
	return (count);
}

static void
deliver_all(sockets_t *sockets)
{
	slot_t *closed = NULL, *slot;
	size_t count;

	if (sockets->delivering)
		return;
	sockets->delivering = 1;
	while ((count = fill_table(sockets, &closed)) > 0) {
		sockets->deliver(sockets->deliver_arg, count);
		while ((slot = closed) != NULL) {
			closed = slot->next;
			slot_free(slot);
		}
	}
	sockets->delivering = 0;
	sockets->inbox_used = 0;
	if (!sockets->refused)
		sockets->round++;
	sockets->crowded = sockets->refused;
	sockets->refused = 0;
	(void) uv_check_stop(&sockets->check);
	(void) uv_prepare_stop(&sockets->prepare);
}

/* Who gets no room is read after what is there was delivered. */
static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	slot_t *slot = (slot_t *)handle;
	sockets_t *sockets = slot->sockets;

	(void) suggested;
	buffer->base = NULL;
	buffer->len = 0;
	if ((slot->happened & BIT(SOCKET_HEARD)) != 0)
		return;
	if (sockets->crowded && slot->round == sockets->round) {
		/* The round ends also where nobody is left to be read in it. */
		arm(sockets);
		return;
	}
	if (sockets->shared.inbox_bytes - sockets->inbox_used < READ_BYTES) {
		sockets->refused = 1;
		return;
	}
	buffer->base = sockets->shared.inbox + sockets->inbox_used;
	buffer->len = READ_BYTES;
}

static void
on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
	slot_t *slot = (slot_t *)stream;
	sockets_t *sockets = slot->sockets;

	(void) buffer;
	if (got > 0) {
		slot->round = sockets->round;
		slot->heard_at = (int32_t)sockets->inbox_used;
		slot->heard = (int32_t)got;
		sockets->inbox_used += (size_t)got;
		happens(slot, SOCKET_HEARD);
	} else if (got == UV_EOF) {
		fails(slot, 0);
	} else if (got < 0 && got != UV_ENOBUFS) {
		(void) uv_read_stop(stream);
		fails(slot, (int)got);
	}
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
	} else if ((err = uv_read_start(&slot->u.stream, on_alloc, on_read)) == 0) {
		happens(slot, SOCKET_ACCEPTED);
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

static void on_incoming(uv_poll_t *poll, int status, int events);

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
	happens(listener, SOCKET_UNACCEPTED);
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

static void
on_written(uv_write_t *request, int status)
{
	slot_t *slot = (slot_t *)request->handle;

	free(request->data);
	slot->sockets->shared.unsent[slot->id] =
	    (uint32_t)uv_stream_get_write_queue_size(&slot->u.stream);
	if (slot->closing)
		return;
	if (status != 0)
		fails(slot, status);
	else
		happens(slot, SOCKET_TAKEN);
	if (slot->ending && slot->sockets->shared.unsent[slot->id] == 0)
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
		fails(slot, -ENOMEM);
		return;
	}
	(void) memcpy(pending->data, data, length);
	pending->request.data = pending;
	buffer = uv_buf_init(pending->data, (unsigned)length);
	err = uv_write(&pending->request, &slot->u.stream, &buffer, 1, on_written);
	if (err != 0) {
		free(pending);
		fails(slot, err);
	}
	slot->sockets->shared.unsent[slot->id] =
	    (uint32_t)uv_stream_get_write_queue_size(&slot->u.stream);
}

static void
slot_write(slot_t *slot, const char *data, size_t length)
{
	uv_buf_t buffer = uv_buf_init((char *)data, (unsigned)length);
	int done = 0;

	if (slot->listens || slot->ending)
		return;
	if (uv_stream_get_write_queue_size(&slot->u.stream) == 0) {
		done = uv_try_write(&slot->u.stream, &buffer, 1);
		if (done == UV_EAGAIN)
			done = 0;
	}
	if (done < 0)
		fails(slot, done);
	else if ((size_t)done < length)
		write_later(slot, data + done, length - (size_t)done);
}

static void
carry_out(slot_t *slot, const int32_t *command)
{
	const sockets_shared_t *shared = &slot->sockets->shared;
	size_t at = (size_t)command[2], length = (size_t)command[3];

	switch ((socket_command_t)command[0]) {
	case SOCKET_WRITE:
		if (command[2] >= 0 && command[3] >= 0 && at + length <= shared->outbox_bytes)
			slot_write(slot, shared->outbox + at, length);
		break;
	case SOCKET_PAUSE:
		if (!slot->listens)
			(void) uv_read_stop(&slot->u.stream);
		break;
	case SOCKET_RESUME:
		/* One that heard its end already has nothing to read. */
		if (!slot->listens)
			(void) uv_read_start(&slot->u.stream, on_alloc, on_read);
		break;
	case SOCKET_END:
		slot->ending = 1;
		if (slot->listens || uv_stream_get_write_queue_size(&slot->u.stream) == 0)
			slot_close(slot);
		break;
	case SOCKET_CLOSE:
		slot_close(slot);
		break;
	}
}

void
sockets_carry_out(sockets_t *sockets, size_t count)
{
	const int32_t *command = sockets->shared.commands;
	slot_t *slot;

	if (count > sockets->shared.max_commands)
		count = sockets->shared.max_commands;
	for (; count > 0; count--, command += SOCKET_INTS) {
		if ((slot = slot_of(sockets, command[1])) != NULL)
			carry_out(slot, command);
	}
}

void
sockets_write(sockets_t *sockets, int32_t id, const char *data, size_t length)
{
	slot_t *slot = slot_of(sockets, id);

	if (slot != NULL)
		slot_write(slot, data, length);
}

size_t
sockets_unsent(const sockets_t *sockets, int32_t id)
{
	slot_t *slot = slot_of(sockets, id);

	return (slot == NULL || slot->listens ? 0 :
	    uv_stream_get_write_queue_size(&slot->u.stream));
}

int
sockets_open(uv_loop_t *loop, const sockets_shared_t *shared,
    void (*deliver)(void *, size_t), void *arg, sockets_t **out)
{
	sockets_t *sockets = calloc(1, sizeof (*sockets));
	size_t id;

	if (sockets == NULL)
		return (-ENOMEM);
	sockets->slots = calloc(shared->max_ids, sizeof (slot_t *));
	sockets->free_ids = malloc(shared->max_ids * sizeof (int32_t));
	if (sockets->slots == NULL || sockets->free_ids == NULL) {
		free(sockets->slots);
		free(sockets->free_ids);
		free(sockets);
		return (-ENOMEM);
	}
	/* The lowest first. */
	for (id = shared->max_ids; id > 0; id--)
		sockets->free_ids[sockets->free_count++] = (int32_t)id - 1;
	sockets->loop = loop;
	sockets->shared = *shared;
	sockets->deliver = deliver;
	sockets->deliver_arg = arg;
	sockets->last = &sockets->first;
	sockets->round = 1;
	sockets->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	(void) uv_check_init(loop, &sockets->check);
	(void) uv_prepare_init(loop, &sockets->prepare);
	(void) uv_timer_init(loop, &sockets->rest);
	uv_unref((uv_handle_t *)&sockets->rest);
	sockets->check.data = sockets->prepare.data = sockets->rest.data = sockets;
	sockets->handles = 3;
	*out = sockets;
	return (0);
}

void
sockets_shutdown(sockets_t *sockets, void (*done)(void *), void *arg)
{
	size_t id;
	slot_t *slot;

	assert(!sockets->delivering);
	sockets->done = done;
	sockets->done_arg = arg;
	for (id = 0; id < sockets->shared.max_ids; id++) {
		if ((slot = sockets->slots[id]) == NULL)
			continue;
		if ((slot->happened & BIT(SOCKET_CLOSED)) != 0)
			slot_free(slot);
		else
			slot_close(slot);
	}
	if (sockets->spare_fd >= 0)
		(void) close(sockets->spare_fd);
	uv_close((uv_handle_t *)&sockets->check, own_closed);
	uv_close((uv_handle_t *)&sockets->prepare, own_closed);
	uv_close((uv_handle_t *)&sockets->rest, own_closed);
}
