#ifndef _ERRNO_H
#define	_ERRNO_H

extern int *___errno(void);
#define	errno	(*(___errno()))

#define	EIO		5
#define	EAGAIN		11
#define	ENOMEM		12
#define	EINVAL		22
#define	ESHUTDOWN	143
#define	ETIMEDOUT	145
#define	EALREADY	149

#endif
