#ifndef _SYS_SOCKET_H
#define	_SYS_SOCKET_H

#include <sys/types.h>

#define	AF_UNIX		1
#define	SOCK_STREAM	2
#if !defined(_STRICT_SYMBOLS)
#define	SOCK_CLOEXEC	0x080000
#define	SOCK_NONBLOCK	0x100000
#endif

typedef unsigned short sa_family_t;
typedef unsigned int socklen_t;

struct sockaddr {
	sa_family_t sa_family;
	char sa_data[14];
};

extern int socket(int, int, int);
extern int bind(int, const struct sockaddr *, socklen_t);
extern int listen(int, int);
extern int accept(int, struct sockaddr *, socklen_t *);
#if !defined(_STRICT_SYMBOLS)
extern int accept4(int, struct sockaddr *, socklen_t *, int);
#endif

#endif
