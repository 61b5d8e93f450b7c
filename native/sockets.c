/*
 * See sockets.h: the whole, opened, given commands, shut down.
 *
 *   sockets.c -> socket_listener.c -> socket_connection.c -> socket_slot.c
 *
 * The end waits for libuv: every handle is closed from the loop, and the last one frees the whole.
 */
#include "sockets.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "socket_connection.h"
#include "socket_listener.h"

/* Places and ids are numbers of int32_t. */
static int
fits(const sockets_shared_t *shared)
{
	return (shared->max_events >= SOCKET_EVENT_KINDS &&
	    shared->inbox_bytes >= INBOX_READ_BYTES && shared->inbox_bytes <= INT32_MAX &&
	    shared->max_ids <= INT32_MAX);
}

int
sockets_open(uv_loop_t *loop, const sockets_shared_t *shared,
    void (*deliver)(void *, size_t), void *arg, sockets_t **out)
{
	sockets_t *sockets;
	size_t id;

	if (!fits(shared))
		return (-EINVAL);
	if ((sockets = calloc(1, sizeof (*sockets))) == NULL)
		return (-ENOMEM);
	sockets->slots = calloc(shared->max_ids, sizeof (slot_t *));
	sockets->free_ids = calloc(shared->max_ids, sizeof (int32_t));
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
	socket_events_open(sockets);
	socket_listeners_open(sockets);
	*out = sockets;
	return (0);
}

static void
execute(slot_t *slot, const int32_t *command)
{
	const sockets_shared_t *shared = &slot->sockets->shared;
	size_t at = (size_t)command[2], length = (size_t)command[3];

	switch ((socket_command_t)command[0]) {
	case SOCKET_WRITE:
		if (command[2] >= 0 && command[3] >= 0 && at + length <= shared->outbox_bytes)
			connection_write(slot, shared->outbox + at, length);
		break;
	case SOCKET_PAUSE:
		connection_pause(slot);
		break;
	case SOCKET_RESUME:
		(void) connection_resume(slot);
		break;
	case SOCKET_END:
		connection_end(slot);
		break;
	case SOCKET_CLOSE:
		slot_close(slot);
		break;
	}
}

static void
execute_some(sockets_t *sockets, size_t count, int closes)
{
	const int32_t *command = sockets->shared.commands;
	slot_t *slot;

	for (; count > 0; count--, command += SOCKET_INTS) {
		if ((command[0] == SOCKET_END || command[0] == SOCKET_CLOSE) == closes &&
		    (slot = slot_of(sockets, command[1])) != NULL)
			execute(slot, command);
	}
}

void
sockets_execute(sockets_t *sockets, size_t count)
{
	if (count > sockets->shared.max_commands)
		count = sockets->shared.max_commands;
	/* Peers wait for what is written; nobody waits for a descriptor to be closed, which takes as long. */
	execute_some(sockets, count, 0);
	execute_some(sockets, count, 1);
}

static void
on_closed(uv_handle_t *handle)
{
	sockets_handle_closed(handle->data);
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
		/* libuv has closed it; nobody else will. */
		if ((slot->happened & SOCKET_BIT(SOCKET_CLOSED)) != 0)
			slot_free(slot);
		else
			slot_close(slot);
	}
	socket_events_close(sockets, on_closed);
	socket_listeners_close(sockets, on_closed);
}
