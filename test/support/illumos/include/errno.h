#ifndef _ERRNO_H
#define	_ERRNO_H

extern int *___errno(void);
#define	errno	(*(___errno()))

#define	ENOENT		2
#define	EINTR		4
#define	EIO		5
#define	EAGAIN		11
#define	EWOULDBLOCK	EAGAIN
#define	EBADF	9
#define	EBUSY	16
#define	ENOMEM		12
#define	EACCES		13
#define	EEXIST		17
#define	ENOTDIR		20
#define	EINVAL		22
#define	ENFILE		23
#define	EMFILE		24
#define	EPROTO		71
#define	ENAMETOOLONG	78
#define	ENOSYS		89
#define	ELOOP		90
#define	ENOTSOCK	95
#define	EMSGSIZE	97
#define	ECONNABORTED	130
#define	ESHUTDOWN	143
#define	ETIMEDOUT	145
#define	EALREADY	149
#define	EINPROGRESS	150
#define	ESTALE		151

#define	EINPROGRESS	150
#define	ELOOP	90
#define	ENOSYS	89
#define	ENOTDIR	20
#define	ENOTSOCK	95
#define	ESTALE	151

#endif
