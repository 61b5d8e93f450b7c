/*
 * The event channel com.sun:zones:status: zonecfg_notify_* for who listens, emul_publish for who tells.
 *
 * A subscriber is a datagram socket <root>/system/simcn/evchan/<pid>.<n>. Its queue is the kernel's and
 * short, and a publisher waits while it is full: on the platform too a stuck subscriber holds up every
 * zone of the node. The socket of a subscriber that died refuses, and the next publisher removes it.
 *
 *            enter                exit: a ping goes to the end of our own queue
 *   open ------------> held --------------------> pinged ---- ping seen, no event before it --> open
 *     ^ func runs       |  ^                          |
 *     +----- abort -----+  +-- ping seen, but events came before it: exit returns 1
 *
 * The mutex is held from enter to exit or abort, by one thread, and while func runs. The reader thread
 * takes it for each message, so in `held` it stands still and in `pinged` it drops events: they are
 * what exit's 1 stands for.
 */
#define	_GNU_SOURCE
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../zonecfg_notify.h"
#include "emul.h"
#include "node.h"
#include "store.h"

/* As many subscriber names as the platform gives one process. */
#define	MAX_SUBSCRIBERS	999
#define	STATE_NAME_MAX	32

enum message_kind { MESSAGE_EVENT = 0x5a455631, MESSAGE_PING };

/* One datagram. Both ends are this library, of one build or another: the kind has the version. */
struct message {
	uint32_t kind;
	int32_t zoneid;
	int64_t when;
	/* Of a ping: which. */
	uint64_t serial;
	char zonename[ZONENAME_MAX];
	char newstate[STATE_NAME_MAX];
	char oldstate[STATE_NAME_MAX];
};

enum section { SECTION_OPEN, SECTION_HELD, SECTION_PINGED };

struct subscriber {
	zonecfg_notify_func_t func;
	void *arg;
	pthread_t reader;
	pthread_mutex_t mutex;
	pthread_cond_t moved;
	enum section section;
	uint64_t ping_sent;
	uint64_t ping_seen;
	/* Events that `pinged` dropped. */
	unsigned int missed;
	int dirfd;
	/* Where events come in. */
	int fd;
	/* Connected to `fd`, for pings: it needs no path, so it works whatever becomes of the folder. */
	int pingfd;
	/* Closing the second end stops the reader. */
	int stop[2];
	char name[48];
};

static atomic_int subscribers;

/* A path that fits a socket address however long the root is. -EINVAL: no subscriber has such a name. */
static int
address(struct sockaddr_un *to, int dirfd, const char *name)
{
	int n;

	memset(to, 0, sizeof (*to));
	to->sun_family = AF_UNIX;
	n = snprintf(to->sun_path, sizeof (to->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
	return (n < 0 || (size_t)n >= sizeof (to->sun_path) ? -EINVAL : 0);
}

static int
open_channel(const char *root)
{
	char path[STORE_PATH_BYTES];
	int err = store_path(path, root, STORE_CHANNEL);
	int fd;

	if (err != 0)
		return (err);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return (fd < 0 ? -errno : fd);
}

/* With the mutex held. */
static void
handle(struct subscriber *s, struct message *m)
{
	if (m->kind == MESSAGE_PING) {
		s->ping_seen = m->serial;
	} else if (s->section == SECTION_PINGED) {
		s->missed++;
	} else {
		m->zonename[sizeof (m->zonename) - 1] = '\0';
		m->newstate[sizeof (m->newstate) - 1] = '\0';
		m->oldstate[sizeof (m->oldstate) - 1] = '\0';
		(void) s->func(m->zonename, m->zoneid, m->newstate, m->oldstate, m->when, s->arg);
	}
	(void) pthread_cond_signal(&s->moved);
}

static void *
reader(void *arg)
{
	struct subscriber *s = arg;
	struct pollfd fds[2] = {
		{ .fd = s->stop[0], .events = POLLIN },
		{ .fd = s->fd, .events = POLLIN },
	};
	struct message m;
	ssize_t n;

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents != 0)
			return (NULL);
		n = recv(s->fd, &m, sizeof (m), MSG_DONTWAIT);
		if (n != sizeof (m) || (m.kind != MESSAGE_EVENT && m.kind != MESSAGE_PING))
			continue;
		(void) pthread_mutex_lock(&s->mutex);
		handle(s, &m);
		(void) pthread_mutex_unlock(&s->mutex);
	}
}

static void
close_fd(int fd)
{
	if (fd >= 0)
		(void) close(fd);
}

/* Accepts one that is half built; its reader has ended or never was. */
static void
subscriber_free(struct subscriber *s)
{
	if (s->dirfd >= 0 && s->name[0] != '\0')
		(void) unlinkat(s->dirfd, s->name, 0);
	close_fd(s->pingfd);
	close_fd(s->fd);
	close_fd(s->stop[0]);
	close_fd(s->stop[1]);
	close_fd(s->dirfd);
	(void) pthread_cond_destroy(&s->moved);
	(void) pthread_mutex_destroy(&s->mutex);
	(void) atomic_fetch_sub(&subscribers, 1);
	free(s);
}

/* Signals are for the program's own threads. */
static int
start_reader(struct subscriber *s)
{
	sigset_t all, before;
	int err;

	(void) sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&s->reader, NULL, reader, s);
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	return (err);
}

void *
zonecfg_notify_bind(zonecfg_notify_func_t func, void *arg)
{
	static atomic_uint serial;
	char root[STORE_PATH_BYTES];
	pthread_mutexattr_t attr;
	struct sockaddr_un to;
	struct subscriber *s = calloc(1, sizeof (*s));

	if (s == NULL)
		return (NULL);
	s->func = func;
	s->arg = arg;
	s->dirfd = s->fd = s->pingfd = s->stop[0] = s->stop[1] = -1;
	/* A thread that leaves a section it did not enter is a bug to stop at, not to live with. */
	(void) pthread_mutexattr_init(&attr);
	(void) pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	(void) pthread_mutex_init(&s->mutex, &attr);
	(void) pthread_mutexattr_destroy(&attr);
	(void) pthread_cond_init(&s->moved, NULL);
	if (atomic_fetch_add(&subscribers, 1) >= MAX_SUBSCRIBERS)
		goto bail;
	node_current_root(root);
	if ((s->dirfd = open_channel(root)) < 0)
		goto bail;
	if (pipe2(s->stop, O_CLOEXEC) != 0)
		goto bail;
	s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	s->pingfd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || s->pingfd < 0)
		goto bail;
	(void) snprintf(s->name, sizeof (s->name), "%010ld.%010u", (long)getpid(),
	    atomic_fetch_add(&serial, 1));
	/* A dead process of the same id may have left one. */
	(void) unlinkat(s->dirfd, s->name, 0);
	if (address(&to, s->dirfd, s->name) != 0 ||
	    bind(s->fd, (struct sockaddr *)&to, sizeof (to)) != 0 ||
	    connect(s->pingfd, (struct sockaddr *)&to, sizeof (to)) != 0)
		goto bail;
	if (start_reader(s) != 0)
		goto bail;
	return (s);
bail:
	subscriber_free(s);
	return (NULL);
}

void
zonecfg_notify_unbind(void *p)
{
	struct subscriber *s = p;

	close_fd(s->stop[1]);
	s->stop[1] = -1;
	(void) pthread_join(s->reader, NULL);
	subscriber_free(s);
}

void
zonecfg_notify_critical_enter(void *p)
{
	struct subscriber *s = p;
	int err = pthread_mutex_lock(&s->mutex);

	assert(err == 0 && s->section == SECTION_OPEN);
	(void) err;
	s->section = SECTION_HELD;
}

static void
section_leave(struct subscriber *s)
{
	int err;

	s->section = SECTION_OPEN;
	err = pthread_mutex_unlock(&s->mutex);
	assert(err == 0);
	(void) err;
}

int
zonecfg_notify_critical_exit(void *p)
{
	struct subscriber *s = p;
	struct message ping = { .kind = MESSAGE_PING, .serial = s->ping_sent + 1 };
	int sent = 0;

	assert(s->section == SECTION_HELD);
	s->section = SECTION_PINGED;
	s->ping_sent++;
	s->missed = 0;
	while (s->ping_seen != s->ping_sent) {
		if (!sent) {
			sent = send(s->pingfd, &ping, sizeof (ping), MSG_DONTWAIT) == sizeof (ping);
			/*
			 * A full queue (EAGAIN) has an event in it that the reader, once let in, drops and
			 * signals. Any other refusal means that the queue cannot be read any more.
			 */
			if (!sent && errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
				break;
		}
		(void) pthread_cond_wait(&s->moved, &s->mutex);
	}
	if (s->missed > 0) {
		s->section = SECTION_HELD;
		return (1);
	}
	section_leave(s);
	return (0);
}

void
zonecfg_notify_critical_abort(void *p)
{
	struct subscriber *s = p;

	assert(s->section == SECTION_HELD);
	section_leave(s);
}

static int
is_socket_name(const struct dirent *entry)
{
	return (entry->d_name[0] != '.');
}

/* Waits while the subscriber's queue is full. */
static int
send_to(int fd, int dirfd, const char *name, const struct message *m)
{
	struct sockaddr_un to;

	if (address(&to, dirfd, name) != 0)
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
send_to_all(int dirfd, const struct message *m)
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
parse_event(char **at, struct message *m)
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
	m->kind = MESSAGE_EVENT;
	m->zoneid = (int32_t)strtol(zoneid, NULL, 10);
	m->when = strtoll(when, NULL, 10);
	return (0);
}

static int
publish_all(int dirfd, char *lines)
{
	struct message m;
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
	if ((dirfd = open_channel(root)) < 0) {
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
