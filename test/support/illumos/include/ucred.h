#ifndef _UCRED_H
#define	_UCRED_H

#include <sys/types.h>

#if !defined(_STRICT_SYMBOLS)
typedef struct ucred_s ucred_t;
extern int getpeerucred(int, ucred_t **);
extern void ucred_free(ucred_t *);
extern zoneid_t ucred_getzoneid(const ucred_t *);
extern pid_t ucred_getpid(const ucred_t *);
extern uid_t ucred_geteuid(const ucred_t *);
#endif

#endif
