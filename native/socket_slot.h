/*
 * Listeners and connections by their ids, what happened to them, and the memory that they are read into:
 * beneath socket_connection.c, socket_listener.c and sockets.c, and used by nothing else. Everything runs on the
 * loop's thread, so nothing is locked.
 */
#ifndef SOCKET_SLOT_H
#define	SOCKET_SLOT_H

#include <uv.h>

#include "sockets_shared.h"

/* What one connection may bring in one batch; the kernel's own buffers hold not much more. */
#define	INBOX_READ_BYTES	65536

/*
 * Reads of one batch, and what an accepted connection counts among them. A read costs the reader some 20 us, a connection,
 * whose peer is checked, eight times that; and whoever asks meanwhile waits for all of them. What is left stays in the
 * kernel until the next batch.
 */
#define	BATCH_READS	256
#define	BATCH_ACCEPT	8

/*
 * A listener or a connection.
 *
 * What happened to a slot is kept in the slot, and the slot in a list: an event never needs memory that
 * there may not be, and however much happens, a slot is in the list once.
 */
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
	int backing_off;
	int ending;
	int closing;
	/* The last pass in which it was read, or accepted. */
	unsigned pass;
	/* Of a listener: connections that it asked for in that pass, and that there were. */
	int accepts;
	int accepted;
	/* Of a connection: the reader wants what it brings. */
	int wanted;
	/* It is not read until a later batch: its neighbours in the list of those. */
	int waits;
	struct slot *next_waiting;
	struct slot *previous_waiting;
	/* Not delivered yet: bits of events, and their numbers. */
	unsigned happened;
	struct slot *next;
	int32_t listener;
	int32_t err;
	int32_t data_at;
	int32_t data_bytes;
	/* A large write that is being filled: see socket_connection.c. */
	char *large;
	size_t large_bytes;
} slot_t;

#define	SOCKET_BIT(event)	(1u << (event))
/* So many events a slot can have at a time: each once. */
#define	SOCKET_EVENT_KINDS	SOCKET_CLOSED

/* What is taken from the kernel in one batch: see batch_admits. */
typedef struct inbox {
	size_t used;
	/* Of BATCH_READS. */
	unsigned taken;
	unsigned pass;
	/* Some found no room in this pass: nobody is read twice in it. */
	int has_waiters;
	/* One that is still to be read in this pass found no room. */
	int refused;
	/*
	 * Connections that found no room, the first come first. They are not watched meanwhile: with 1,024 ready ones libuv polls
	 * again and again before it lets the batch end (linux.c, uv__io_poll).
	 */
	struct slot *first_waiting;
	struct slot *last_waiting;
} inbox_t;

struct sockets {
	uv_loop_t *loop;
	sockets_shared_t shared;
	void (*deliver)(void *, size_t);
	void *deliver_arg;
	/* Set from sockets_shutdown on: nothing is delivered any more. */
	void (*done)(void *);
	void *done_arg;
	/* Slots to which something happened, in order. */
	slot_t *first;
	slot_t **last;
	int delivering;
	inbox_t inbox;
	/* Closed for the time of refusing a client where there is no other descriptor. */
	int spare_fd;
	/* Deliver what the poll phase brought, and what came outside of it. */
	uv_check_t check;
	uv_prepare_t prepare;
	/* All listeners that back off go on when it fires. */
	uv_timer_t back_off;
	/* Handles of libuv's that are not closed: those three, and one a slot. */
	size_t handles;
	slot_t **slots;
	/* A stack of the ids that nothing has. */
	int32_t *free_ids;
	size_t free_count;
};

/* Before anything can happen, and at the end. The two handles count among those of the sockets. */
void socket_events_open(sockets_t *sockets);
void socket_events_close(sockets_t *sockets, uv_close_cb closed);

/* One of `handles` was closed. After sockets_shutdown the last one frees the whole. */
void sockets_handle_closed(sockets_t *sockets);

/* A slot with an id, for a descriptor that is its own then. -errno: it is still the caller's. */
int slot_make(sockets_t *sockets, int fd, int listens, slot_t **out);

/* NULL where nothing has the id, or it is being closed. */
slot_t *slot_of(const sockets_t *sockets, int32_t id);

/* Its event CLOSED comes when libuv has closed it; closing twice is closing once. */
void slot_close(slot_t *slot);

/* Its CLOSED was delivered, or never will be: the id may be given again. */
void slot_free(slot_t *slot);

/* Frees the large write that is being filled, if there is one. */
void slot_abandon(slot_t *slot);

/* An event, to be delivered before the loop sleeps. Nothing happens any more after sockets_shutdown. */
void slot_happens(slot_t *slot, socket_event_t event);

/* The connection is of no more use: its owner gets ENDED once, and closes it. `err` is 0 or negative. */
void slot_fails(slot_t *slot, int err);

/* Whether this batch may take more from the slot, `bytes` at most. */
int batch_admits(slot_t *slot, size_t bytes);

/* Room for what the connection brings, INBOX_READ_BYTES; of no length where it must wait. */
void inbox_take(slot_t *slot, uv_buf_t *place);

/* The connection got no room: it is not read before a later batch, which reads on by itself. */
void inbox_wait(slot_t *slot);

/* What is read on, in socket_connection.c. 0 or -errno */
int connection_read_on(slot_t *slot);

/* So many bytes came to that place. */
void inbox_filled(slot_t *slot, size_t got);

#endif
