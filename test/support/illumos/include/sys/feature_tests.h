/*
 * Stand-ins for the illumos headers: as much of them as the addon's C needs, so that clang can check it
 * for that platform without one. Types, values and visibility are illumos'.
 *
 * Under -std=c11 the real headers show the C standard's names alone, unless a program asks for more;
 * these do the same, so that a forgotten feature-test macro is found here.
 */
#ifndef _SYS_FEATURE_TESTS_H
#define	_SYS_FEATURE_TESTS_H

#if defined(__STRICT_ANSI__) && !defined(__EXTENSIONS__) && !defined(_POSIX_C_SOURCE) && \
	!defined(_XOPEN_SOURCE)
#define	_STRICT_STDC
#endif
#if defined(__STRICT_ANSI__) && !defined(__EXTENSIONS__)
#define	_STRICT_SYMBOLS
#endif

#endif
