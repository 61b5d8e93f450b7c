/*
 * Reading and writing a connection: for socket_listener.c and sockets.c, and by its id for the reader.
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

/*
 * A large write that is put together piece by piece: memory of its own is reserved, filled, and sent
 * with one write, or abandoned where `length` is 0. It is unmapped as soon as the kernel has accepted
 * all of it. A connection has one at a time. 0, -ENOMEM, -EBUSY where it has one, or -EBADF for
 * any other id; the other two leave such an id alone.
 */
int connection_reserve(sockets_t *sockets, int32_t id, size_t length);
void connection_fill(sockets_t *sockets, int32_t id, size_t at, const char *data, size_t length);
void connection_commit(sockets_t *sockets, int32_t id, size_t length);

/*
 * Bytes of a connection that its peer has not read just now, as far as the kernel knows: those that are
 * buffered, and on Linux those that it holds, with what it needs to hold them. 0 for any
 * other id.
 */
size_t connection_undelivered(const sockets_t *sockets, int32_t id);

/*
 * Whether the peer has closed its end, and not only shut down its side of it: nobody will read what is
 * written. Asked of the kernel, since a connection that is not read shows no end.
 */
int connection_gone(const sockets_t *sockets, int32_t id);

#endif
