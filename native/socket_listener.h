/*
 * Accepting: for the files behind sockets.h.
 */
#ifndef SOCKET_LISTENER_H
#define	SOCKET_LISTENER_H

#include "sockets_impl.h"

/* Before anybody listens, and at the end. The handle counts among those of the sockets. */
void socket_listeners_open(sockets_t *sockets);
void socket_listeners_close(sockets_t *sockets, uv_close_cb closed);

#endif
