/*
 * See socket_slot.h. An id is given back only after its CLOSED was delivered, so that the reader never
 * takes one connection for another.
 */
#include "socket_slot.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "socket_connection.h"
#include "socket_events.h"

int
slot_make(sockets_t *sockets, int fd, int listens, slot_t **out)
{
	slot_t *slot;
	int err;

	if (sockets->free_count == 0)
		return (-EMFILE);
	if ((slot = calloc(1, sizeof (*slot))) == NULL)
		return (-ENOMEM);
	/* One that cannot be watched is refused before there is a handle to close. */
	if (listens)
		err = uv_poll_init(sockets->loop, &slot->u.poll, fd);
	else
		err = uv_pipe_init(sockets->loop, &slot->u.pipe, 0);
	if (err != 0) {
		free(slot);
		return (err);
	}
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

slot_t *
slot_of(const sockets_t *sockets, int32_t id)
{
	slot_t *slot;

	if (id < 0 || (size_t)id >= sockets->shared.max_ids)
		return (NULL);
	slot = sockets->slots[id];
	return (slot == NULL || slot->closing ? NULL : slot);
}

static void
on_closed(uv_handle_t *handle)
{
	slot_t *slot = (slot_t *)handle;
	sockets_t *sockets = slot->sockets;

	if (sockets->done == NULL) {
		socket_happens(slot, SOCKET_CLOSED);
		return;
	}
	free(slot);
	sockets_handle_closed(sockets);
}

void
slot_close(slot_t *slot)
{
	if (slot->closing)
		return;
	slot->closing = 1;
	connection_abandon(slot);
	uv_close(&slot->u.handle, on_closed);
	/* libuv closes the descriptors of its streams only. */
	if (slot->listens)
		(void) close(slot->fd);
}

void
slot_free(slot_t *slot)
{
	sockets_t *sockets = slot->sockets;

	sockets->slots[slot->id] = NULL;
	sockets->free_ids[sockets->free_count++] = slot->id;
	sockets->handles--;
	free(slot);
}
