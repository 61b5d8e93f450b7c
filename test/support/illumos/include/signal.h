#ifndef _SIGNAL_H
#define	_SIGNAL_H

#include <sys/types.h>

#if !defined(_STRICT_STDC)
typedef struct { unsigned int __sigbits[4]; } sigset_t;
#define	SIG_BLOCK	1
#define	SIG_UNBLOCK	2
#define	SIG_SETMASK	3
extern int sigfillset(sigset_t *);
extern int pthread_sigmask(int, const sigset_t *, sigset_t *);
#endif

#endif
