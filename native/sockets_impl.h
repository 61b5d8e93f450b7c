/*
 * What the files behind sockets.h share; nobody else includes this, or the four headers that build on it.
 * Whatever they declare runs on the loop's thread, so nothing is locked.
 *
 *   sockets.c            the whole: opened, told what to do, shut down
 *   socket_slot.c        ids and libuv's handles, from slot_make to slot_free
 *   socket_events.c      what happened, from the callback to `deliver`
 *   socket_inbox.c       which connection is read in which round
 *   socket_listener.c    accepting
 *   socket_connection.c  hearing and writing
 */
#ifndef SOCKETS_IMPL_H
#define	SOCKETS_IMPL_H

#include "sockets.h"

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
	/* A large write that is being filled: see socket_connection.c. */
	char *large;
	size_t large_bytes;
} slot_t;

#define	SOCKET_BIT(event)	(1u << (event))
/* So many a slot can have to tell at a time: each once. */
#define	SOCKET_EVENT_KINDS	SOCKET_CLOSED

/* See socket_inbox.c. */
typedef struct inbox {
	size_t used;
	unsigned round;
	int crowded;
	/* One that is still to be read in this round found no room. */
	int refused;
} inbox_t;

struct sockets {
	uv_loop_t *loop;
	sockets_shared_t shared;
	void (*deliver)(void *, size_t);
	void *deliver_arg;
	/* Set from sockets_shutdown on: nothing is told any more. */
	void (*done)(void *);
	void *done_arg;
	/* Slots to which something happened, in order. */
	slot_t *first;
	slot_t **last;
	int delivering;
	inbox_t inbox;
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

/* One of `handles` was closed. After sockets_shutdown the last one frees the whole. */
void sockets_handle_closed(sockets_t *sockets);

#endif
