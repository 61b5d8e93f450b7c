/*
 * The channel that node makes for a child process (NODE_CHANNEL_FD), from the child's side: lines of JSON,
 * with a descriptor where a socket is handed over. For zone_root.c and emul/zport.c, programs of one thread.
 */
#ifndef NODE_CHANNEL_H
#define	NODE_CHANNEL_H

/* Its descriptor; -1 where node made none. */
int node_channel_fd(void);

/*
 * Sends one line of JSON, whole, and waits for room. With a descriptor (or -1) it is the message by which
 * node hands over a socket, and `json` comes with it; the descriptor stays open here. 0 or -1.
 */
int node_channel_send(int fd, const char *json, int passed);

#endif
