/*
 * Who listens to the channel of zone state changes: zonecfg_notify_*, with the platform's signatures.
 *
 *            enter                exit: a ping goes to the end of our own queue
 *   open ------------> held --------------------> pinged ---- ping seen, and no event since enter --> open
 *     ^ func runs       |  ^                          |
 *     +----- abort -----+  +-- ping seen, but events came before it: exit returns 1
 *
 * `owner` is held from enter to exit or abort, by one thread; `mutex` while func runs and for each change of the
 * section. But in `open` the reader thread drops events, as zn_cb does (libzonecfg.c): they are what exit's 1 stands
 * for, and abort says nothing of them.
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
#include <sys/socket.h>
#include <unistd.h>

#include "../zonecfg_notify.h"
#include "channel.h"
#include "node.h"

/* As many subscriber names as the platform gives one process. */
#define	MAX_SUBSCRIBERS	999

enum section { SECTION_OPEN, SECTION_HELD, SECTION_PINGED };

typedef struct subscriber {
	zonecfg_notify_func_t func;
	void *arg;
	pthread_t reader;
	pthread_mutex_t owner;
	pthread_mutex_t mutex;
	pthread_cond_t moved;
	enum section section;
	uint64_t ping_sent;
	uint64_t ping_seen;
	/* Events that were dropped since enter, or since exit returned 1. */
	unsigned int missed;
	int dirfd;
	/* Where events come in. */
	int fd;
	/* Connected to `fd`, for pings: it needs no path, so it works whatever becomes of the directory. */
	int pingfd;
	/* Closing the second end stops the reader. */
	int stop[2];
	char name[48];
} subscriber_t;

/* Of all processes together: EVCH_MAX_SUBSCRIPTIONS (uts/common/os/evchannels.c, evch_chsubscribe). */
#define	MAX_NODE_SUBSCRIBERS	32

static atomic_int subscribers;

/* How many there are; those of dead processes are removed and do not count, as the kernel forgets them. */
static int
count_subscribers(int dirfd)
{
	struct sockaddr_un to;
	struct dirent *entry;
	int living = 0;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);

	while (fd >= 0 && dir != NULL && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.' || channel_address(&to, dirfd, entry->d_name) != 0)
			continue;
		if (connect(fd, (struct sockaddr *)&to, sizeof (to)) != 0 && errno == ECONNREFUSED)
			(void) unlinkat(dirfd, entry->d_name, 0);
		else
			living++;
	}
	if (dir != NULL)
		(void) closedir(dir);
	else if (copy >= 0)
		(void) close(copy);
	if (fd >= 0)
		(void) close(fd);
	return (living);
}

/* With the mutex held. */
static void
handle(subscriber_t *s, channel_message_t *m)
{
	if (m->kind == CHANNEL_PING) {
		s->ping_seen = m->serial;
	} else if (s->section != SECTION_OPEN) {
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
	subscriber_t *s = arg;
	struct pollfd fds[2] = {
		{ .fd = s->stop[0], .events = POLLIN },
		{ .fd = s->fd, .events = POLLIN },
	};
	channel_message_t m;
	ssize_t n;

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents != 0)
			return (NULL);
		n = recv(s->fd, &m, sizeof (m), MSG_DONTWAIT);
		if (n != sizeof (m) || (m.kind != CHANNEL_EVENT && m.kind != CHANNEL_PING))
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
subscriber_free(subscriber_t *s)
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
	(void) pthread_mutex_destroy(&s->owner);
	(void) atomic_fetch_sub(&subscribers, 1);
	free(s);
}

/* Signals are for the program's own threads. */
static int
start_reader(subscriber_t *s)
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
	subscriber_t *s = calloc(1, sizeof (*s));

	if (s == NULL)
		return (NULL);
	s->func = func;
	s->arg = arg;
	s->dirfd = s->fd = s->pingfd = s->stop[0] = s->stop[1] = -1;
	/* A thread that leaves a section it did not enter is a bug to stop at, not to live with. */
	(void) pthread_mutexattr_init(&attr);
	(void) pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	(void) pthread_mutex_init(&s->owner, &attr);
	(void) pthread_mutexattr_destroy(&attr);
	(void) pthread_mutex_init(&s->mutex, NULL);
	(void) pthread_cond_init(&s->moved, NULL);
	if (atomic_fetch_add(&subscribers, 1) >= MAX_SUBSCRIBERS)
		goto bail;
	node_current_root(root);
	if ((s->dirfd = channel_open(root)) < 0)
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
	if (channel_address(&to, s->dirfd, s->name) != 0 ||
	    bind(s->fd, (struct sockaddr *)&to, sizeof (to)) != 0 ||
	    connect(s->pingfd, (struct sockaddr *)&to, sizeof (to)) != 0)
		goto bail;
	if (count_subscribers(s->dirfd) > MAX_NODE_SUBSCRIBERS || start_reader(s) != 0)
		goto bail;
	return (s);
bail:
	subscriber_free(s);
	return (NULL);
}

void
zonecfg_notify_unbind(void *p)
{
	subscriber_t *s = p;

	close_fd(s->stop[1]);
	s->stop[1] = -1;
	(void) pthread_join(s->reader, NULL);
	subscriber_free(s);
}

/* With the mutex held. What was dropped before is forgotten. */
static void
section_set(subscriber_t *s, enum section section)
{
	s->section = section;
	s->missed = 0;
}

void
zonecfg_notify_critical_enter(void *p)
{
	subscriber_t *s = p;
	int err = pthread_mutex_lock(&s->owner);

	assert(err == 0 && s->section == SECTION_OPEN);
	(void) err;
	(void) pthread_mutex_lock(&s->mutex);
	section_set(s, SECTION_HELD);
	(void) pthread_mutex_unlock(&s->mutex);
}

/* With both mutexes held, which it releases. */
static void
section_leave(subscriber_t *s)
{
	int err;

	section_set(s, SECTION_OPEN);
	(void) pthread_mutex_unlock(&s->mutex);
	err = pthread_mutex_unlock(&s->owner);
	assert(err == 0);
	(void) err;
}

int
zonecfg_notify_critical_exit(void *p)
{
	subscriber_t *s = p;
	channel_message_t ping = { .kind = CHANNEL_PING, .serial = s->ping_sent + 1 };
	int sent = 0;

	assert(s->section == SECTION_HELD);
	(void) pthread_mutex_lock(&s->mutex);
	s->section = SECTION_PINGED;
	s->ping_sent++;
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
		section_set(s, SECTION_HELD);
		(void) pthread_mutex_unlock(&s->mutex);
		return (1);
	}
	section_leave(s);
	return (0);
}

void
zonecfg_notify_critical_abort(void *p)
{
	subscriber_t *s = p;

	assert(s->section == SECTION_HELD);
	(void) pthread_mutex_lock(&s->mutex);
	section_leave(s);
}
