#ifndef _SYS_SOCKET_H
#define	_SYS_SOCKET_H

#include <sys/types.h>
#include <sys/uio.h>

#define	AF_UNIX		1
#define	SOCK_STREAM	2
#define	SOL_SOCKET	0xffff
#define	SO_ERROR	0x1007
#define	MSG_DONTWAIT	0x80
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

#if defined(_XOPEN_SOURCE)
/* Otherwise the members are those of 4.3BSD, and there is no control message. */
struct msghdr {
	void *msg_name;
	socklen_t msg_namelen;
	struct iovec *msg_iov;
	int msg_iovlen;
	void *msg_control;
	socklen_t msg_controllen;
	int msg_flags;
};

struct cmsghdr {
	socklen_t cmsg_len;
	int cmsg_level;
	int cmsg_type;
};

#define	SCM_RIGHTS	0x1010
#define	_CMSG_HDR_ALIGN(x)	(((unsigned long)(x) + 3) & ~3UL)
#define	CMSG_DATA(c)	((unsigned char *)_CMSG_HDR_ALIGN((struct cmsghdr *)(c) + 1))
#define	CMSG_FIRSTHDR(m)	((struct cmsghdr *)(m)->msg_control)
#define	CMSG_SPACE(l)	((unsigned int)_CMSG_HDR_ALIGN(sizeof (struct cmsghdr) + (l)))
#define	CMSG_LEN(l)	((unsigned int)(sizeof (struct cmsghdr) + (l)))

extern ssize_t sendmsg(int, const struct msghdr *, int);
#endif

extern int connect(int, const struct sockaddr *, socklen_t);
extern int getsockopt(int, int, int, void *restrict, socklen_t *restrict);
extern ssize_t recv(int, void *, size_t, int);
extern int socket(int, int, int);
extern int bind(int, const struct sockaddr *, socklen_t);
extern int listen(int, int);
extern int accept(int, struct sockaddr *, socklen_t *);
#if !defined(_STRICT_SYMBOLS)
extern int accept4(int, struct sockaddr *, socklen_t *, int);
#endif

#endif
