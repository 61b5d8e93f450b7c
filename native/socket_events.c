/*
 * See socket_events.h.
 *
 *   callback of libuv -> socket_happens: a bit in the slot, the slot in the list
 *   end of the poll phase -> deliver_all: the list becomes the table, `deliver` is called, until the
 *                            list is empty: the reader's answers may make more happen
 *
 * Only then is the inbox free again. The two handles are started only while there is something to
 * deliver, for while they are, they cost each turn of the loop and keep it alive.
 */
#include "socket_events.h"

#include "socket_inbox.h"
#include "socket_slot.h"

/* Adds the event to the table, if the slot has it. */
static size_t
tell(const slot_t *slot, socket_event_t event, int32_t a, int32_t b, size_t count)
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

/* Takes slots from the list as long as the table has room for all that a slot can have to tell. */
static size_t
fill_table(sockets_t *sockets, slot_t **closed)
{
	size_t count = 0;
	slot_t *slot;

	while ((slot = sockets->first) != NULL &&
	    count + SOCKET_EVENT_KINDS <= sockets->shared.max_events) {
		if ((sockets->first = slot->next) == NULL)
			sockets->last = &sockets->first;
		count = tell(slot, SOCKET_ACCEPTED, slot->listener, slot->fd, count);
		count = tell(slot, SOCKET_UNACCEPTED, slot->err, 0, count);
		count = tell(slot, SOCKET_HEARD, slot->heard_at, slot->heard, count);
		count = tell(slot, SOCKET_TAKEN, 0, 0, count);
		count = tell(slot, SOCKET_ENDED, slot->err, 0, count);
		count = tell(slot, SOCKET_CLOSED, 0, 0, count);
		slot->next = NULL;
		if ((slot->happened & SOCKET_BIT(SOCKET_CLOSED)) != 0) {
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
	inbox_emptied(&sockets->inbox);
	(void) uv_check_stop(&sockets->check);
	(void) uv_prepare_stop(&sockets->prepare);
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

void
socket_events_open(sockets_t *sockets)
{
	sockets->last = &sockets->first;
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
socket_events_arm(sockets_t *sockets)
{
	(void) uv_check_start(&sockets->check, on_check);
	(void) uv_prepare_start(&sockets->prepare, on_prepare);
}

void
socket_happens(slot_t *slot, socket_event_t event)
{
	sockets_t *sockets = slot->sockets;

	if (sockets->done != NULL)
		return;
	if (slot->happened == 0) {
		if (sockets->first == NULL && !sockets->delivering)
			socket_events_arm(sockets);
		slot->next = NULL;
		*sockets->last = slot;
		sockets->last = &slot->next;
	}
	slot->happened |= SOCKET_BIT(event);
}

void
socket_fails(slot_t *slot, int err)
{
	slot->err = -err;
	socket_happens(slot, SOCKET_ENDED);
}
