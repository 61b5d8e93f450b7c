/*
 * See failing-rules.h. A rule names a kind of call, what happens at it, and a part of the path that the call
 * is about: the one it is given, or that of its descriptor; for sockets the one that they, or else their
 * peers, are bound to, or `socket:[`.
 */
#define	_GNU_SOURCE
#include "failing-rules.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define	RULES 8

enum {
	ACT_FAIL = 0,
	ACT_KILL_BEFORE = 1,
	ACT_KILL_AFTER = 2,
	ACT_DELAY = 3
};

typedef struct rule {
	int32_t armed;
	/* The errno of a failure, the milliseconds of a delay. */
	int32_t amount;
	int32_t hits;
	int32_t act;
	char call[16];
	/* Matches where it occurs; with a final '$', where the path ends in it. */
	char path[224];
} rule_t;

static rule_t *rules;

long
rule_raw(long number, long a, long b, long c, long d, long e, long f)
{
	REAL("syscall", long, long, ...)
	return (real(number, a, b, c, d, e, f));
}

__attribute__((constructor)) static void
map_rules(void)
{
	const char *path = getenv("FAILING_CALLS");
	int fd;
	void *mapped;

	if (path == NULL)
		return;
	fd = (int)rule_raw(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
	if (fd == -1)
		return;
	mapped = mmap(NULL, RULES * sizeof (rule_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void) close(fd);
	if (mapped != MAP_FAILED)
		rules = mapped;
}

static int
matches(const char *pattern, const char *path)
{
	size_t len = strlen(pattern), all = strlen(path);

	if (len == 0 || pattern[len - 1] != '$')
		return (strstr(path, pattern) != NULL);
	len--;
	return (all >= len && memcmp(path + all - len, pattern, len) == 0);
}

void
rule_socket_path(const struct sockaddr *address, socklen_t len, char *path, size_t size)
{
	struct sockaddr_un un = { .sun_family = AF_UNSPEC };

	(void) memcpy(&un, address, len < sizeof (un) ? len : sizeof (un));
	path[0] = '\0';
	if (un.sun_family == AF_UNIX && len > offsetof(struct sockaddr_un, sun_path))
		(void) snprintf(path, size, "%.*s", (int)sizeof (un.sun_path), un.sun_path);
}

static void
descriptor_path(int fd, char *path, size_t size)
{
	char link[32];
	struct sockaddr_un un;
	socklen_t len;
	ssize_t got;

	for (int end = 0; end < 2; end++) {
		len = sizeof (un);
		if (rule_raw(end == 0 ? SYS_getsockname : SYS_getpeername, fd, (long)&un, (long)&len, 0, 0, 0) != 0)
			continue;
		rule_socket_path((struct sockaddr *)&un, len, path, size);
		if (path[0] != '\0')
			return;
	}
	(void) snprintf(link, sizeof (link), "/proc/self/fd/%d", fd);
	got = rule_raw(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, (long)size - 1, 0, 0);
	path[got < 0 ? 0 : got] = '\0';
}

static int
armed(const char *call)
{
	for (int i = 0; rules != NULL && i < RULES; i++) {
		if (__atomic_load_n(&rules[i].armed, __ATOMIC_ACQUIRE) && !strcmp(rules[i].call, call))
			return (1);
	}
	return (0);
}

/* The first rule that the call meets, and whose part it is: before the call, or after it. Null: none. */
static rule_t *
met(const char *call, const char *path, int after)
{
	for (int i = 0; rules != NULL && i < RULES; i++) {
		rule_t *rule = &rules[i];
		if (__atomic_load_n(&rule->armed, __ATOMIC_ACQUIRE) && !strcmp(rule->call, call) &&
		    (rule->act == ACT_KILL_AFTER) == after && matches(rule->path, path)) {
			(void) __atomic_add_fetch(&rule->hits, 1, __ATOMIC_RELAXED);
			return (rule);
		}
	}
	return (NULL);
}

/* Nothing more is done by any thread. */
static void
die(void)
{
	for (;;)
		(void) rule_raw(SYS_kill, rule_raw(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
}

int
rule_fails(const char *call, const char *path)
{
	rule_t *rule = met(call, path, 0);
	struct timespec rest;

	if (rule == NULL)
		return (0);
	switch (rule->act) {
	case ACT_KILL_BEFORE:
		die();
		break;
	case ACT_DELAY:
		rest.tv_sec = rule->amount / 1000;
		rest.tv_nsec = (rule->amount % 1000) * 1000000L;
		(void) rule_raw(SYS_nanosleep, (long)&rest, 0, 0, 0, 0, 0);
		return (0);
	}
	errno = rule->amount;
	return (1);
}

void
rule_made(const char *call, const char *path)
{
	if (met(call, path, 1) != NULL)
		die();
}

int
rule_watches(const char *call, int fd, char *path, size_t size)
{
	int before = errno;

	if (!armed(call))
		return (0);
	descriptor_path(fd, path, size);
	errno = before;
	return (1);
}
