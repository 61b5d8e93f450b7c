/*
 * What the C programs of the benchmark share.
 */
#ifndef MEASURE_H
#define	MEASURE_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

/* Seconds of a clock that never goes back. */
static double
now(void)
{
	struct timespec t;

	(void) clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec + t.tv_nsec * 1e-9);
}

#endif
