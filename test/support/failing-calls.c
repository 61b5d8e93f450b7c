/*
 * Makes chosen system calls of a process fail, as a kernel under pressure does, take long, as on a disk that
 * hangs, or be the last that the process makes: put in front of libc by LD_PRELOAD, steered by a test
 * while the process runs (failing-calls.ts). Which calls those are, failing-rules.c knows.
 */
#define	_GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "failing-rules.h"

static int
fails_on(const char *call, int fd)
{
	char path[PATH_MAX];

	return (rule_watches(call, fd, path, sizeof (path)) && rule_fails(call, path));
}

#define	BY_PATH(name, call, type, params, subject, args, ...) \
	type name params \
	{ \
		REAL(#name, type, __VA_ARGS__) \
		if (rule_fails(call, subject)) \
			return (-1); \
		type result = real args; \
		rule_made(call, subject); \
		return (result); \
	}

#define	BY_FD(name, call, type, params, args, ...) \
	type name params \
	{ \
		char path[PATH_MAX]; \
		REAL(#name, type, __VA_ARGS__) \
		if (!rule_watches(call, fd, path, sizeof (path))) \
			return (real args); \
		if (rule_fails(call, path)) \
			return (-1); \
		type result = real args; \
		rule_made(call, path); \
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
/* As an addon calls it. */
BY_PATH(lstat64, "stat", int, (const char *path, struct stat64 *buf), path, (path, buf),
    const char *, struct stat64 *)
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

	rule_socket_path(address, len, path, sizeof (path));
	return (rule_fails("bind", path) ? -1 : real(fd, address, len));
}

int
connect(int fd, const struct sockaddr *address, socklen_t len)
{
	char path[PATH_MAX];
	REAL("connect", int, int, const struct sockaddr *, socklen_t)

	rule_socket_path(address, len, path, sizeof (path));
	return (rule_fails("connect", path) ? -1 : real(fd, address, len));
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
	if (rule_fails("open", path))
		return (-1);
	int fd = real(path, flags, mode);
	rule_made("open", path);
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

	if (command != F_SETLK || !rule_watches("lock", fd, path, sizeof (path)))
		return (real(fd, command, argument));
	if (rule_fails("lock", path))
		return (-1);
	int result = real(fd, command, argument);
	rule_made("lock", path);
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
			if (!rule_watches(call, (int)arg[0], path, sizeof (path)))
				call = NULL;
		}
		break;
	case SYS_close:
		if (rule_watches("close", (int)arg[0], path, sizeof (path)))
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
	if (call != NULL && rule_fails(call, subject))
		return (-1);
	result = rule_raw(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	if (call != NULL)
		rule_made(call, subject);
	return (result);
}
