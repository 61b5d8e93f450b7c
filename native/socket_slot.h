/*
 * Slots by their ids: for the files behind sockets.h.
 */
#ifndef SOCKET_SLOT_H
#define	SOCKET_SLOT_H

#include "sockets_impl.h"

/* A slot with an id, for a descriptor that is its own then. -errno: it is still the caller's. */
int slot_make(sockets_t *sockets, int fd, int listens, slot_t **out);

/* NULL where nothing has the id, or it is being closed. */
slot_t *slot_of(const sockets_t *sockets, int32_t id);

/* CLOSED is told when libuv lets go of it; closing twice is closing once. */
void slot_close(slot_t *slot);

/* Its CLOSED was delivered, or never will be: the id may be given again. */
void slot_free(slot_t *slot);

#endif
