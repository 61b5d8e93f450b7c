/*
 * What a source asks of the system's headers, included before any other: under -std=c11 they would show standard C
 * alone, and illumos has its own variants of some POSIX functions by default.
 */
#ifndef FEATURE_MACROS_H
#define	FEATURE_MACROS_H

#if defined(__sun)
#ifndef __EXTENSIONS__
#define	__EXTENSIONS__
#endif
#ifndef _POSIX_PTHREAD_SEMANTICS
#define	_POSIX_PTHREAD_SEMANTICS
#endif
#elif !defined(_GNU_SOURCE)
#define	_GNU_SOURCE
#endif

#endif
