/*
 * See channel.h.
 */
#define	_GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "store.h"

int
channel_address(struct sockaddr_un *to, int dirfd, const char *name)
{
	int n;

	memset(to, 0, sizeof (*to));
	to->sun_family = AF_UNIX;
	n = snprintf(to->sun_path, sizeof (to->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
	return (n < 0 || (size_t)n >= sizeof (to->sun_path) ? -EINVAL : 0);
}

int
channel_open(const char *root)
{
	char path[STORE_PATH_BYTES];
	int err = store_path(path, root, STORE_CHANNEL);
	int fd;

	if (err != 0)
		return (err);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return (fd < 0 ? -errno : fd);
}
