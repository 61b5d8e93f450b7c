/*
 * Which connection is read, and where to: for the files behind sockets.h.
 */
#ifndef SOCKET_INBOX_H
#define	SOCKET_INBOX_H

#include "sockets_impl.h"

/* What one connection may bring in one batch; the kernel's own buffers hold not much more. */
#define	INBOX_READ_BYTES	65536

void inbox_init(inbox_t *inbox);

/* A place for what the connection brings, of INBOX_READ_BYTES; of no length where it is not its turn. */
void inbox_take(slot_t *slot, uv_buf_t *place);

/* So many bytes came to that place. */
void inbox_filled(slot_t *slot, size_t got);

/* All that was in it was delivered. */
void inbox_emptied(inbox_t *inbox);

#endif
