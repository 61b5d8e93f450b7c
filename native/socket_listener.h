/*
 * Listening and accepting: for sockets.c.
 */
#ifndef SOCKET_LISTENER_H
#define	SOCKET_LISTENER_H

#include "socket_slot.h"

/* Before anybody listens, and at the end. The handle counts among those of the sockets. */
void socket_listeners_open(sockets_t *sockets);
void socket_listeners_close(sockets_t *sockets, uv_close_cb closed);

/* As sockets_listen of sockets.h. */
int socket_listen(sockets_t *sockets, const char *path, int backlog);

#endif
