/*
 * See socket_slot.h. An id is given back only after its CLOSED was delivered, so that the reader never
 * takes one connection for another.
 *
 *   callback of libuv -> slot_happens: a bit in the slot, the slot in the list
 *   end of the poll phase -> deliver_all: the list becomes the table, `deliver` is called, until the
 *                            list is empty: the reader's answers may make more happen
 *
 * Only then is the inbox free again. The check and prepare handles are started only while there is something
 * to deliver, for while they are, they cost each iteration of the loop and keep it alive.
 */
#include "feature_macros.h"

#include "socket_slot.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void
sockets_handle_closed(sockets_t *sockets)
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

void
slot_free(slot_t *slot)
{
	sockets_t *sockets = slot->sockets;

	sockets->slots[slot->id] = NULL;
	sockets->free_ids[sockets->free_count++] = slot->id;
	sockets->handles--;
	free(slot);
}

void
slot_abandon(slot_t *slot)
{
	if (slot->large != NULL)
		(void) munmap(slot->large, slot->large_bytes);
	slot->large = NULL;
}

/* Adds the event to the table, if the slot has it. */
static size_t
add_event(const slot_t *slot, socket_event_t event, int32_t a, int32_t b, size_t count)
{
	int32_t *entry = slot->sockets->shared.events + SOCKET_INTS * count;

	if ((slot->happened & SOCKET_BIT(event)) == 0)
		return (count);
	entry[0] = event;
	entry[1] = slot->id;
	entry[2] = a;
	entry[3] = b;
	return (count + 1);
}

/* Takes slots from the list as long as the table has room for all events of one. */
static size_t
fill_table(sockets_t *sockets, slot_t **closed)
{
	size_t count = 0;
	slot_t *slot;

	while ((slot = sockets->first) != NULL &&
	    count + SOCKET_EVENT_KINDS <= sockets->shared.max_events) {
		if ((sockets->first = slot->next) == NULL)
			sockets->last = &sockets->first;
		count = add_event(slot, SOCKET_ACCEPTED, slot->listener, slot->fd, count);
		count = add_event(slot, SOCKET_ACCEPT_FAILED, slot->err, 0, count);
		count = add_event(slot, SOCKET_DATA, slot->data_at, slot->data_bytes, count);
		count = add_event(slot, SOCKET_DRAIN, 0, 0, count);
		count = add_event(slot, SOCKET_ENDED, slot->err, 0, count);
		count = add_event(slot, SOCKET_CLOSED, 0, 0, count);
		slot->next = NULL;
		if ((slot->happened & SOCKET_BIT(SOCKET_CLOSED)) != 0) {
			slot->next = *closed;
			*closed = slot;
		}
		slot->happened = 0;
	}
	return (count);
}

void
inbox_wait(slot_t *slot)
{
	inbox_t *inbox = &slot->sockets->inbox;

	if (slot->waits)
		return;
	slot->waits = 1;
	slot->next_waiting = NULL;
	slot->previous_waiting = inbox->last_waiting;
	if (inbox->last_waiting == NULL)
		inbox->first_waiting = slot;
	else
		inbox->last_waiting->next_waiting = slot;
	inbox->last_waiting = slot;
}

static void
inbox_leave(slot_t *slot)
{
	inbox_t *inbox = &slot->sockets->inbox;

	if (!slot->waits)
		return;
	slot->waits = 0;
	if (slot->previous_waiting == NULL)
		inbox->first_waiting = slot->next_waiting;
	else
		slot->previous_waiting->next_waiting = slot->next_waiting;
	if (slot->next_waiting == NULL)
		inbox->last_waiting = slot->previous_waiting;
	else
		slot->next_waiting->previous_waiting = slot->previous_waiting;
}

/* All that was in it was delivered: those that wait longest are read next. */
static void
inbox_emptied(inbox_t *inbox)
{
	slot_t *slot;
	int count = 0, err;

	while (count < BATCH_READS && (slot = inbox->first_waiting) != NULL) {
		inbox_leave(slot);
		/* What it brings ends the next batch, which goes on with the list. */
		if (slot->wanted && (err = connection_read_on(slot)) != 0)
			slot_fails(slot, err);
		count += slot->wanted;
	}
	inbox->used = 0;
	inbox->taken = 0;
	if (!inbox->refused)
		inbox->pass++;
	inbox->has_waiters = inbox->refused;
	inbox->refused = 0;
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
	(void) uv_check_stop(&sockets->check);
	(void) uv_prepare_stop(&sockets->prepare);
	inbox_emptied(&sockets->inbox);
}

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

/* Ends the inbox's pass before the loop sleeps, though nothing may happen in it any more. */
static void
events_arm(sockets_t *sockets)
{
	(void) uv_check_start(&sockets->check, on_check);
	(void) uv_prepare_start(&sockets->prepare, on_prepare);
}

void
socket_events_open(sockets_t *sockets)
{
	sockets->last = &sockets->first;
	/* Not 0, which is the pass of slots that were never read. */
	sockets->inbox.pass = 1;
	(void) uv_check_init(sockets->loop, &sockets->check);
	(void) uv_prepare_init(sockets->loop, &sockets->prepare);
	sockets->check.data = sockets->prepare.data = sockets;
	sockets->handles += 2;
}

void
socket_events_close(sockets_t *sockets, uv_close_cb closed)
{
	uv_close((uv_handle_t *)&sockets->check, closed);
	uv_close((uv_handle_t *)&sockets->prepare, closed);
}

void
slot_happens(slot_t *slot, socket_event_t event)
{
	sockets_t *sockets = slot->sockets;

	if (sockets->done != NULL)
		return;
	if (slot->happened == 0) {
		if (sockets->first == NULL && !sockets->delivering)
			events_arm(sockets);
		slot->next = NULL;
		*sockets->last = slot;
		sockets->last = &slot->next;
	}
	slot->happened |= SOCKET_BIT(event);
}

void
slot_fails(slot_t *slot, int err)
{
	slot->err = -err;
	slot_happens(slot, SOCKET_ENDED);
}

/*
 * The poll phase names connections in the same order each time. So that those at its end get their part of
 * the batch too, there are passes: while some wait, none is read twice in one. A pass ends when a batch was
 * delivered and nobody found it full. Who gets no room is read after what is there was delivered: a connection waits in
 * the list, and is told by ENOBUFS; a listener is found again by the next poll, since libuv watches by level.
 */
int
batch_admits(slot_t *slot, size_t bytes)
{
	sockets_t *sockets = slot->sockets;
	inbox_t *inbox = &sockets->inbox;

	if (inbox->has_waiters && slot->pass == inbox->pass) {
		/* The pass ends also where nobody is left to be read in it. */
		events_arm(sockets);
		return (0);
	}
	if (inbox->taken >= BATCH_READS || sockets->shared.inbox_bytes - inbox->used < bytes) {
		/* Reads may have brought nothing that is delivered: the batch ends all the same. */
		events_arm(sockets);
		inbox->refused = 1;
		return (0);
	}
	return (1);
}

void
inbox_take(slot_t *slot, uv_buf_t *place)
{
	const sockets_shared_t *shared = &slot->sockets->shared;
	inbox_t *inbox = &slot->sockets->inbox;

	place->base = NULL;
	place->len = 0;
	if ((slot->happened & SOCKET_BIT(SOCKET_DATA)) != 0 ||
	    !batch_admits(slot, INBOX_READ_BYTES))
		return;
	inbox->taken++;
	place->base = shared->inbox + inbox->used;
	place->len = INBOX_READ_BYTES;
}

void
inbox_filled(slot_t *slot, size_t got)
{
	inbox_t *inbox = &slot->sockets->inbox;

	slot->pass = inbox->pass;
	slot->data_at = (int32_t)inbox->used;
	slot->data_bytes = (int32_t)got;
	inbox->used += got;
	slot_happens(slot, SOCKET_DATA);
}

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
	sockets->shared.buffered[slot->id] = 0;
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
		slot_happens(slot, SOCKET_CLOSED);
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
	inbox_leave(slot);
	slot_abandon(slot);
	uv_close(&slot->u.handle, on_closed);
	/* libuv closes the descriptors of its streams only. */
	if (slot->listens)
		(void) close(slot->fd);
}
