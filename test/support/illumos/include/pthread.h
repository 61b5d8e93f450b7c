#ifndef _PTHREAD_H
#define	_PTHREAD_H

#include <sys/types.h>
#include <time.h>

/* The real one has more words, and a magic number. */
#define	PTHREAD_MUTEX_INITIALIZER	{{0, 0, 0}}

#if !defined(_STRICT_STDC)
extern int pthread_create(pthread_t *, const pthread_attr_t *, void * (*)(void *), void *);
extern int pthread_join(pthread_t, void **);
extern int pthread_equal(pthread_t, pthread_t);
extern pthread_t pthread_self(void);
extern int pthread_mutex_init(pthread_mutex_t *, const pthread_mutexattr_t *);
extern int pthread_mutex_destroy(pthread_mutex_t *);
extern int pthread_mutex_lock(pthread_mutex_t *);
extern int pthread_mutex_unlock(pthread_mutex_t *);
extern int pthread_condattr_init(pthread_condattr_t *);
extern int pthread_condattr_destroy(pthread_condattr_t *);
extern int pthread_condattr_setclock(pthread_condattr_t *, clockid_t);
extern int pthread_cond_init(pthread_cond_t *, const pthread_condattr_t *);
extern int pthread_cond_destroy(pthread_cond_t *);
extern int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *);
extern int pthread_cond_timedwait(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
extern int pthread_cond_signal(pthread_cond_t *);
extern int pthread_cond_broadcast(pthread_cond_t *);
#endif

#endif
