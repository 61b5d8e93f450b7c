/*
 * Reading and writing a connection: for socket_listener.c and sockets.c.
 */
#ifndef SOCKET_CONNECTION_H
#define	SOCKET_CONNECTION_H

#include "socket_slot.h"

/*
 * These are as the commands of sockets.h say. A listener is left alone by all but connection_end, which
 * closes it.
 */
void connection_write(slot_t *slot, const char *data, size_t length);
void connection_pause(slot_t *slot);
/* 0 or -errno; after its end there is nothing to read. */
int connection_resume(slot_t *slot);
void connection_end(slot_t *slot);

/* Reads what has come already, where that is possible without waiting. Of a connection that was just accepted. */
void connection_read_early(slot_t *slot);

/* A large write, as sockets.h says. */
int connection_reserve(slot_t *slot, size_t length);
void connection_fill(slot_t *slot, size_t at, const char *data, size_t length);
void connection_commit(slot_t *slot, size_t length);

/* Bytes that the kernel had no room for, and that the peer has not read; 0 of a listener. */
size_t connection_buffered(const slot_t *slot);
size_t connection_undelivered(const slot_t *slot);

/* Whether nobody will read what is written; never so of a listener. */
int connection_gone(const slot_t *slot);

#endif
