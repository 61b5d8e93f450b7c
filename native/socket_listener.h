/*
 * Listening and accepting: for sockets.c and the reader.
 */
#ifndef SOCKET_LISTENER_H
#define	SOCKET_LISTENER_H

#include "socket_slot.h"

/* Before anybody listens, and at the end. The handle counts among those of the sockets. */
void socket_listeners_open(sockets_t *sockets);
void socket_listeners_close(sockets_t *sockets, uv_close_cb closed);

/*
 * Binds a new socket to `path` and listens. The listener's id, or -errno. The file stays when the
 * listener is closed. It is 0600 from the start on Linux; elsewhere the caller has to see to that.
 */
int socket_listen(sockets_t *sockets, const char *path, int backlog);

#endif
