#ifndef _TIME_H
#define	_TIME_H

#include <sys/types.h>

#if !defined(_STRICT_STDC)
typedef struct timespec { time_t tv_sec; long tv_nsec; } timespec_t;
typedef int clockid_t;
#define	CLOCK_THREAD_CPUTIME_ID	2
#define	CLOCK_HIGHRES	4
#define	CLOCK_MONOTONIC	CLOCK_HIGHRES
extern int clock_gettime(clockid_t, timespec_t *);
#endif

#endif
