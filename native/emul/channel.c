/*
 * The event channel and its publisher, emul_publish; subscriber.c is the other end. The lock of publishers is held
 * for a whole call, so that all subscribers see one order.
 */
#define	_GNU_SOURCE
#include "channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "emul.h"
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
	return (store_open(root, STORE_CHANNEL, O_PATH | O_DIRECTORY));
}

static int
is_socket_name(const struct dirent *entry)
{
	return (entry->d_name[0] != '.');
}

/* Waits while the subscriber's queue is full. */
static int
send_to(int fd, int dirfd, const char *name, const channel_message_t *m)
{
	struct sockaddr_un to;

	if (channel_address(&to, dirfd, name) != 0)
		return (0);
	for (;;) {
		if (sendto(fd, m, sizeof (*m), MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof (to)) >= 0)
			return (0);
		switch (errno) {
		case EINTR:
			break;
		case ECONNREFUSED:
		case EPIPE:
			/* Died without unbinding. Names are never used twice, so it is still the dead one's. */
			(void) unlinkat(dirfd, name, 0);
			return (0);
		case ENOENT:
			return (0);
		default:
			return (-errno);
		}
	}
}

static int
send_to_all(int dirfd, const channel_message_t *m)
{
	struct dirent **names;
	int err = 0;
	int count, i, one, fd;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return (-errno);
	count = scandirat(dirfd, ".", &names, is_socket_name, alphasort);
	if (count < 0) {
		err = -errno;
		(void) close(fd);
		return (err);
	}
	for (i = 0; i < count; i++) {
		/* One that cannot be reached does not keep the event from the others. */
		one = send_to(fd, dirfd, names[i]->d_name, m);
		if (err == 0)
			err = one;
		free(names[i]);
	}
	free(names);
	(void) close(fd);
	return (err);
}

static int
fill(char *to, size_t room, const char *from)
{
	if (strlen(from) >= room)
		return (-EINVAL);
	(void) strcpy(to, from);
	return (0);
}

/* The next field of a line that ends at `stop`; *at is moved behind it. NULL where there is none. */
static char *
next_field(char **at, char stop)
{
	char *field = *at;
	char *end = strchr(field, stop);

	if (end == NULL)
		return (NULL);
	*end = '\0';
	*at = end + 1;
	return (field);
}

static int
parse_event(char **at, channel_message_t *m)
{
	char *name = next_field(at, ':');
	char *zoneid = name == NULL ? NULL : next_field(at, ':');
	char *newstate = zoneid == NULL ? NULL : next_field(at, ':');
	char *oldstate = newstate == NULL ? NULL : next_field(at, ':');
	char *when = oldstate == NULL ? NULL : next_field(at, '\n');

	if (when == NULL || fill(m->zonename, sizeof (m->zonename), name) != 0 ||
	    fill(m->newstate, sizeof (m->newstate), newstate) != 0 ||
	    fill(m->oldstate, sizeof (m->oldstate), oldstate) != 0)
		return (-EINVAL);
	m->kind = CHANNEL_EVENT;
	m->zoneid = (int32_t)strtol(zoneid, NULL, 10);
	m->when = strtoll(when, NULL, 10);
	return (0);
}

static int
publish_all(int dirfd, char *lines)
{
	channel_message_t m;
	char *at = lines;
	int err = 0;

	while (err == 0 && *at != '\0') {
		(void) memset(&m, 0, sizeof (m));
		err = parse_event(&at, &m);
		if (err == 0)
			err = send_to_all(dirfd, &m);
	}
	return (err);
}

int
emul_publish(const char *root, const char *events)
{
	char *lines = strdup(events);
	int dirfd, lock, err;

	if (lines == NULL)
		return (-ENOMEM);
	if ((dirfd = channel_open(root)) < 0) {
		free(lines);
		return (dirfd);
	}
	lock = store_lock(root, STORE_EVLOCK);
	err = lock < 0 ? lock : publish_all(dirfd, lines);
	if (lock >= 0)
		store_unlock(lock);
	(void) close(dirfd);
	free(lines);
	return (err);
}
