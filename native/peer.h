/*
 * Who is at the other end of a connection: the credential that the kernel recorded when it was made.
 *
 * Asked once for each connection of a guest, so it is C beneath the addon and not ffi, whose calls
 * cost more than all that a connection costs besides. Each returns 0 or -errno; they do not block,
 * and any thread may call them.
 */
#ifndef PEER_H
#define	PEER_H

#include "zone_ids.h"

typedef struct peer {
	/* -1 where the zone is not known. */
	zoneid_t zoneid;
	pid_t pid;
	uid_t uid;
} peer_t;

/* -ENOTCONN: the other end is gone. */
int peer_of(int fd, peer_t *peer);

/* `name` has room for ZONENAME_MAX bytes. -EINVAL: the kernel knows no such zone. */
int peer_zonename(zoneid_t zoneid, char *name);

#endif
