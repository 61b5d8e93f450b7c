/*
 * See socket_connection.h.
 *
 * A write goes to the kernel at once, from where the reader put it. Only what the kernel has no room for
 * is copied, and whatever is written behind it waits its turn in libuv's queue.
 */
#include "socket_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "socket_events.h"
#include "socket_inbox.h"
#include "socket_slot.h"

typedef struct pending_write {
	uv_write_t request;
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
		socket_fails(slot, 0);
	} else if (got < 0 && got != UV_ENOBUFS) {
		/* ENOBUFS is the inbox's answer to one that must wait. */
		(void) uv_read_stop(stream);
		socket_fails(slot, (int)got);
	}
}

void
connection_pause(slot_t *slot)
{
	if (!slot->listens)
		(void) uv_read_stop(&slot->u.stream);
}

int
connection_resume(slot_t *slot)
{
	return (slot->listens ? 0 : uv_read_start(&slot->u.stream, on_alloc, on_read));
}

size_t
connection_unsent(const slot_t *slot)
{
	return (slot->listens ? 0 : uv_stream_get_write_queue_size(&slot->u.stream));
}

static void
tell_unsent(const slot_t *slot)
{
	slot->sockets->shared.unsent[slot->id] = (uint32_t)connection_unsent(slot);
}

static void
on_written(uv_write_t *request, int status)
{
	slot_t *slot = (slot_t *)request->handle;

	free(request->data);
	tell_unsent(slot);
	if (slot->closing)
		return;
	if (status != 0)
		socket_fails(slot, status);
	else
		socket_happens(slot, SOCKET_TAKEN);
	if (slot->ending && connection_unsent(slot) == 0)
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
		socket_fails(slot, -ENOMEM);
		return;
	}
	(void) memcpy(pending->data, data, length);
	pending->request.data = pending;
	buffer = uv_buf_init(pending->data, (unsigned)length);
	err = uv_write(&pending->request, &slot->u.stream, &buffer, 1, on_written);
	if (err != 0) {
		free(pending);
		socket_fails(slot, err);
	}
	tell_unsent(slot);
}

void
connection_write(slot_t *slot, const char *data, size_t length)
{
	uv_buf_t buffer = uv_buf_init((char *)data, (unsigned)length);
	int done = 0;

	if (slot->listens || slot->ending)
		return;
	/* Lengths of libuv's have 32 bits, and so has what is told of them. */
	if (length > INT32_MAX) {
		socket_fails(slot, -EMSGSIZE);
		return;
	}
	if (connection_unsent(slot) == 0) {
		done = uv_try_write(&slot->u.stream, &buffer, 1);
		if (done == UV_EAGAIN)
			done = 0;
	}
	if (done < 0)
		socket_fails(slot, done);
	else if ((size_t)done < length)
		write_later(slot, data + done, length - (size_t)done);
}

void
connection_end(slot_t *slot)
{
	slot->ending = 1;
	if (connection_unsent(slot) == 0)
		slot_close(slot);
}
