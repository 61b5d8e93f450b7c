/*
 * The rules of failing-calls.c: which calls fail, take long, or are the last. For its two files only.
 *
 * The file named by FAILING_CALLS holds them, an array that a test maps too and changes while the process
 * runs (failing-calls.ts). Threads of the process call in here, so counts are atomic; nothing is allocated
 * and nothing locked.
 */
#ifndef FAILING_RULES_H
#define	FAILING_RULES_H

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* Whether the call is to fail; errno is set then, and left alone otherwise. It may take long, or never end. */
int rule_fails(const char *call, const char *path);

/* The call was made, whatever came of it: the process may end here. */
void rule_made(const char *call, const char *path);

/* Whether any rule is about such calls; the path of the descriptor then. Before the call: it may close it. */
int rule_watches(const char *call, int fd, char *path, size_t size);

/* What an address is bound to; empty for what has no name. */
void rule_socket_path(const struct sockaddr *address, socklen_t len, char *path, size_t size);

/* libc's own syscall(). */
long rule_raw(long number, long a, long b, long c, long d, long e, long f);

/* The next definition of the name, which is libc's. */
#define	REAL(name, type, ...) \
	static type (*real)(__VA_ARGS__); \
	if (real == NULL) { \
		void *found = dlsym(RTLD_NEXT, name); \
		(void) memcpy(&real, &found, sizeof (real)); \
	}

#endif
