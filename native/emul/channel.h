/*
 * The event channel com.sun:zones:status, for its publisher and for subscriber.c. Nothing here keeps state; any
 * thread may call.
 *
 * A subscriber is a datagram socket <root>/system/simcn/evchan/<pid>.<n>. Its queue is the kernel's and
 * short, and a publisher waits while it is full: on the platform too a stuck subscriber holds up every
 * zone of the node. The socket of a subscriber that died refuses, and the next publisher removes it.
 */
#ifndef CHANNEL_H
#define	CHANNEL_H

#include <stdint.h>
#include <sys/un.h>

#include "illumos.h"

#define	CHANNEL_STATE_MAX	32

typedef enum channel_kind {
	CHANNEL_EVENT = 0x5a455631,
	/* A subscriber's word to itself: what was queued before it has been read. */
	CHANNEL_PING
} channel_kind_t;

/* One datagram. Both ends are this library, of one build or another: the kind has the version. */
typedef struct channel_message {
	uint32_t kind;
	int32_t zoneid;
	int64_t when;
	/* Of a ping: which. */
	uint64_t serial;
	char zonename[ZONENAME_MAX];
	char newstate[CHANNEL_STATE_MAX];
	char oldstate[CHANNEL_STATE_MAX];
} channel_message_t;

/* The directory of the sockets: a file descriptor, or -errno. -ENOENT: the node never booted. */
int channel_open(const char *root);

/* A path that fits a socket address however long the root is. -EINVAL: no subscriber has such a name. */
int channel_address(struct sockaddr_un *to, int dirfd, const char *name);

#endif
