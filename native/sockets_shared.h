/*
 * The memory that the sockets and their reader (JavaScript) share, and the numbers in it.
 */
#ifndef SOCKETS_SHARED_H
#define	SOCKETS_SHARED_H

#include <stddef.h>
#include <stdint.h>

/* Listeners and connections on a loop: sockets.h, and what it is made of in socket_slot.h. */
typedef struct sockets sockets_t;

/* What happened; `events` holds four numbers for each: this, an id, and two more. */
typedef enum socket_event {
	/* Listener, the new connection, its descriptor. It is read from at once. */
	SOCKET_ACCEPTED = 1,
	/* Listener, errno: one could not be accepted. The listener continues. */
	SOCKET_ACCEPT_FAILED,
	/* Connection, where in `inbox`, how many bytes. Good until `deliver` returns. */
	SOCKET_DATA,
	/* Connection, errno, or 0: the peer ended its side. No more data comes. */
	SOCKET_ENDED,
	/* Connection: the kernel accepted a write that it first had no room for. */
	SOCKET_DRAIN,
	/* Either: the descriptor is closed. */
	SOCKET_CLOSED
} socket_event_t;

/* What to do; `commands` holds four numbers for each: this, an id, and two more. */
typedef enum socket_command {
	/* Connection, where in `outbox`, how many bytes. */
	SOCKET_WRITE = 1,
	/* Connection: read no more for now; read again. */
	SOCKET_PAUSE,
	SOCKET_RESUME,
	/* Connection: close when all is written. */
	SOCKET_END,
	/* Either: close now. What is still buffered is lost. */
	SOCKET_CLOSE
} socket_command_t;

#define	SOCKET_INTS	4

typedef struct sockets_shared {
	int32_t *events;
	size_t max_events;
	char *inbox;
	size_t inbox_bytes;
	const int32_t *commands;
	size_t max_commands;
	const char *outbox;
	size_t outbox_bytes;
	/* By id: bytes that were written and that the kernel had no room for. */
	uint32_t *buffered;
	/* Listeners and connections that there may be at a time. */
	size_t max_ids;
} sockets_shared_t;

#endif
