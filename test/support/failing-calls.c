/*
 * Makes chosen system calls of a process fail, as a kernel under pressure does, take long, as on a disk that
 * hangs, or be the last that the process makes: put in front of libc by LD_PRELOAD, told by a test what to do
 * while the process runs (failing-calls.ts).
 *
 * The file named by FAILING_CALLS holds the rules, an array of `rule_t`, mapped by both sides. A rule names
 * a kind of call, what happens at it, and a part of the path that the call is about: the one it is given, or
 * that of its descriptor; for sockets the one that they, or else their peers, are bound to, or `socket:[`.
 * Threads of the process call in here, so counts are atomic; nothing is allocated and nothing locked.
 */
#define	_GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
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

/* The next definition of the name, which is libc's. */
#define	REAL(name, type, ...) \
	static type (*real)(__VA_ARGS__); \
	if (real == NULL) { \
		void *found = dlsym(RTLD_NEXT, name); \
		(void) memcpy(&real, &found, sizeof (real)); \
	}

static long
raw(long number, long a, long b, long c, long d, long e, long f)
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
	fd = (int)raw(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
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

static void
socket_path(const struct sockaddr *address, socklen_t len, char *path, size_t size)
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
		if (raw(end == 0 ? SYS_getsockname : SYS_getpeername, fd, (long)&un, (long)&len, 0, 0, 0) != 0)
			continue;
		socket_path((struct sockaddr *)&un, len, path, size);
		if (path[0] != '\0')
			return;
	}
	(void) snprintf(link, sizeof (link), "/proc/self/fd/%d", fd);
	got = raw(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, (long)size - 1, 0, 0);
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
		(void) raw(SYS_kill, raw(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
}

/* Whether the call is to fail; errno is set then, and left alone otherwise. */
static int
fails(const char *call, const char *path)
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
		(void) raw(SYS_nanosleep, (long)&rest, 0, 0, 0, 0, 0);
		return (0);
	}
	errno = rule->amount;
	return (1);
}

/* The call was made, whatever came of it. */
static void
made(const char *call, const char *path)
{
	if (met(call, path, 1) != NULL)
		die();
}

/* Whether any rule is about such calls; the path of the descriptor then. Before the call: it may close it. */
static int
watched(const char *call, int fd, char *path, size_t size)
{
	int before = errno;

	if (!armed(call))
		return (0);
	descriptor_path(fd, path, size);
	errno = before;
	return (1);
}

static int
fails_on(const char *call, int fd)
{
	char path[PATH_MAX];

	return (watched(call, fd, path, sizeof (path)) && fails(call, path));
}

#define	BY_PATH(name, call, type, params, subject, args, ...) \
	type name params \
	{ \
		REAL(#name, type, __VA_ARGS__) \
		if (fails(call, subject)) \
			return (-1); \
		type result = real args; \
		made(call, subject); \
		return (result); \
	}

#define	BY_FD(name, call, type, params, args, ...) \
	type name params \
	{ \
		char path[PATH_MAX]; \
		REAL(#name, type, __VA_ARGS__) \
		if (!watched(call, fd, path, sizeof (path))) \
			return (real args); \
		if (fails(call, path)) \
			return (-1); \
		type result = real args; \
		made(call, path); \
		return (result); \
	}

BY_PATH(mkdir, "mkdir", int, (const char *path, mode_t mode), path, (path, mode), const char *, mode_t)
BY_PATH(unlink, "unlink", int, (const char *path), path, (path), const char *)
BY_PATH(chmod, "chmod", int, (const char *path, mode_t mode), path, (path, mode), const char *, mode_t)
BY_PATH(link, "link", int, (const char *from, const char *to), to, (from, to), const char *, const char *)
BY_PATH(rename, "rename", int, (const char *from, const char *to), to, (from, to),
    const char *, const char *)
BY_PATH(socket, "socket", int, (int domain, int type, int protocol), "", (domain, type, protocol),
    int, int, int)
BY_PATH(socketpair, "socketpair", int, (int domain, int type, int protocol, int fds[2]), "",
    (domain, type, protocol, fds), int, int, int, int *)
BY_PATH(pipe2, "pipe", int, (int fds[2], int flags), "", (fds, flags), int *, int)
BY_PATH(lstat, "stat", int, (const char *path, struct stat *buf), path, (path, buf),
    const char *, struct stat *)
BY_PATH(stat, "stat", int, (const char *path, struct stat *buf), path, (path, buf),
    const char *, struct stat *)
BY_PATH(execvp, "exec", int, (const char *path, char *const argv[]), path, (path, argv),
    const char *, char *const *)
BY_PATH(fork, "fork", pid_t, (void), "", (), void)
BY_PATH(inotify_init1, "watch", int, (int flags), "", (flags), int)
BY_PATH(inotify_add_watch, "watch", int, (int fd, const char *path, uint32_t mask), path,
    (fd, path, mask), int, const char *, uint32_t)

BY_FD(read, "read", ssize_t, (int fd, void *buf, size_t len), (fd, buf, len), int, void *, size_t)
BY_FD(readv, "read", ssize_t, (int fd, const struct iovec *iov, int n), (fd, iov, n),
    int, const struct iovec *, int)
BY_FD(pread64, "read", ssize_t, (int fd, void *buf, size_t len, off64_t at), (fd, buf, len, at),
    int, void *, size_t, off64_t)
BY_FD(write, "write", ssize_t, (int fd, const void *buf, size_t len), (fd, buf, len),
    int, const void *, size_t)
BY_FD(writev, "write", ssize_t, (int fd, const struct iovec *iov, int n), (fd, iov, n),
    int, const struct iovec *, int)
BY_FD(pwrite64, "write", ssize_t, (int fd, const void *buf, size_t len, off64_t at),
    (fd, buf, len, at), int, const void *, size_t, off64_t)
BY_FD(fsync, "fsync", int, (int fd), (fd), int)
BY_FD(fdatasync, "fsync", int, (int fd), (fd), int)
BY_FD(fchmod, "chmod", int, (int fd, mode_t mode), (fd, mode), int, mode_t)
BY_FD(fchown, "chown", int, (int fd, uid_t uid, gid_t gid), (fd, uid, gid), int, uid_t, gid_t)
BY_FD(close, "close", int, (int fd), (fd), int)
BY_FD(listen, "listen", int, (int fd, int backlog), (fd, backlog), int, int)
BY_FD(accept, "accept", int, (int fd, struct sockaddr *from, socklen_t *len), (fd, from, len),
    int, struct sockaddr *, socklen_t *)
BY_FD(accept4, "accept", int, (int fd, struct sockaddr *from, socklen_t *len, int flags),
    (fd, from, len, flags), int, struct sockaddr *, socklen_t *, int)

int
bind(int fd, const struct sockaddr *address, socklen_t len)
{
	char path[PATH_MAX];
	REAL("bind", int, int, const struct sockaddr *, socklen_t)

	socket_path(address, len, path, sizeof (path));
	return (fails("bind", path) ? -1 : real(fd, address, len));
}

int
connect(int fd, const struct sockaddr *address, socklen_t len)
{
	char path[PATH_MAX];
	REAL("connect", int, int, const struct sockaddr *, socklen_t)

	socket_path(address, len, path, sizeof (path));
	return (fails("connect", path) ? -1 : real(fd, address, len));
}

/* The emulation's getpeerucred asks this. */
int
getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	REAL("getsockopt", int, int, int, int, void *, socklen_t *)

	if (level == SOL_SOCKET && name == SO_PEERCRED && fails_on("peer", fd))
		return (-1);
	return (real(fd, level, name, value, len));
}

static int
open_any(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
	if (fails("open", path))
		return (-1);
	int fd = real(path, flags, mode);
	made("open", path);
	return (fd);
}

#define	OPENS(name) \
	int name(const char *path, int flags, ...) \
	{ \
		va_list args; \
		REAL(#name, int, const char *, int, ...) \
		va_start(args, flags); \
		mode_t mode = va_arg(args, mode_t); \
		va_end(args); \
		return (open_any(real, path, flags, mode)); \
	}

OPENS(open)
OPENS(open64)

static int
control(int (*real)(int, int, ...), int fd, int command, void *argument)
{
	char path[PATH_MAX];

	if (command != F_SETLK || !watched("lock", fd, path, sizeof (path)))
		return (real(fd, command, argument));
	if (fails("lock", path))
		return (-1);
	int result = real(fd, command, argument);
	made("lock", path);
	return (result);
}

#define	CONTROLS(name) \
	int name(int fd, int command, ...) \
	{ \
		va_list args; \
		REAL(#name, int, int, int, ...) \
		va_start(args, command); \
		void *argument = va_arg(args, void *); \
		va_end(args); \
		return (control(real, fd, command, argument)); \
	}

CONTROLS(fcntl)
CONTROLS(fcntl64)

/* libuv calls statx and close by their numbers, and the emulation mounts and unmounts by theirs. */
long
syscall(long number, ...)
{
	char path[PATH_MAX];
	const char *call = NULL, *subject = path;
	long arg[6], result;
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	switch (number) {
	case SYS_statx:
		call = "stat";
		subject = (const char *)arg[1];
		if (subject[0] == '\0') {
			subject = path;
			if (!watched(call, (int)arg[0], path, sizeof (path)))
				call = NULL;
		}
		break;
	case SYS_close:
		if (watched("close", (int)arg[0], path, sizeof (path)))
			call = "close";
		break;
	case SYS_move_mount:
		call = "mount";
		subject = (const char *)arg[3];
		break;
	case SYS_mount:
		call = "mount";
		subject = (const char *)arg[1];
		break;
	case SYS_umount2:
		call = "umount";
		subject = (const char *)arg[0];
		break;
	}
	if (call != NULL && fails(call, subject))
		return (-1);
	result = raw(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	if (call != NULL)
		made(call, subject);
	return (result);
}
