/*
 * See peer.h.
 */
#include "feature_macros.h"

#ifdef __sun
#include <ucred.h>
#endif

#include <errno.h>
#include <stddef.h>

#include "peer.h"

int
peer_of(int fd, peer_t *peer)
{
	ucred_t *ucred = NULL;

	if (getpeerucred(fd, &ucred) != 0)
		return (-errno);
	peer->zoneid = ucred_getzoneid(ucred);
	peer->pid = ucred_getpid(ucred);
	peer->uid = ucred_geteuid(ucred);
	ucred_free(ucred);
	return (0);
}

int
peer_zonename(zoneid_t zoneid, char *name)
{
	return (getzonenamebyid(zoneid, name, ZONENAME_MAX) < 0 ? -errno : 0);
}
