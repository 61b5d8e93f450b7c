/*
 * See socket_inbox.h.
 *
 * The poll phase names connections in the same order each time. So that those at its end get their part
 * of the inbox too, there are rounds: while it is crowded, none is read twice in one. A round ends when
 * the inbox is emptied and nobody found it full since it was emptied last.
 */
#include "socket_inbox.h"

#include "socket_events.h"

void
inbox_init(inbox_t *inbox)
{
	/* Not 0, which is the round of slots that were never read. */
	inbox->round = 1;
}

/* Who gets no room is read after what is there was delivered. */
void
inbox_take(slot_t *slot, uv_buf_t *place)
{
	const sockets_shared_t *shared = &slot->sockets->shared;
	inbox_t *inbox = &slot->sockets->inbox;

	place->base = NULL;
	place->len = 0;
	if ((slot->happened & SOCKET_BIT(SOCKET_HEARD)) != 0)
		return;
	if (inbox->crowded && slot->round == inbox->round) {
		/* The round ends also where nobody is left to be read in it. */
		socket_events_arm(slot->sockets);
		return;
	}
	if (shared->inbox_bytes - inbox->used < INBOX_READ_BYTES) {
		inbox->refused = 1;
		return;
	}
	place->base = shared->inbox + inbox->used;
	place->len = INBOX_READ_BYTES;
}

void
inbox_filled(slot_t *slot, size_t got)
{
	inbox_t *inbox = &slot->sockets->inbox;

	slot->round = inbox->round;
	slot->heard_at = (int32_t)inbox->used;
	slot->heard = (int32_t)got;
	inbox->used += got;
	socket_happens(slot, SOCKET_HEARD);
}

void
inbox_emptied(inbox_t *inbox)
{
	inbox->used = 0;
	if (!inbox->refused)
		inbox->round++;
	inbox->crowded = inbox->refused;
	inbox->refused = 0;
}
