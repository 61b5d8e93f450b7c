/*
 * How long the iterations of a loop take: what a guest that asks meanwhile has to wait. It costs the loop some
 * 100 ns an iteration and never wakes it.
 *
 * An iteration is what the loop does between two waits for the kernel, without the waits. The time that the
 * node's scheduler lets the loop wait before it runs is not in it.
 *
 * Where others take the processor an iteration lasts longer than its work. The CPU time of the longest work is counted
 * beside it, which nobody else can make longer.
 */
#ifndef LOOP_DELAY_H
#define	LOOP_DELAY_H

#include <stdint.h>
#include <uv.h>

/*
 * By length: nanoseconds of all iterations of that length. 0 to 3 are for iterations of that many whole
 * microseconds; after them each power of two has four, and the last one has whatever is longer.
 */
#define	LOOP_DELAY_LENGTHS	128
/*
 * Short iterations share one look at the thread's clock, a system call: their CPU time is known when they took so long
 * together. What is said of one iteration is too much by that at most.
 */
#define	LOOP_DELAY_CPU_NS	1000000
/* The longest iteration, ns; the most CPU time of one, ns; and then the lengths. */
#define	LOOP_DELAY_NUMBERS	(2 + LOOP_DELAY_LENGTHS)

typedef struct loop_delay {
	uv_prepare_t prepare;
	/* LOOP_DELAY_NUMBERS of the caller's, who may clear them between two iterations. */
	double *into;
	uint64_t last_ns;
	uint64_t last_idle_ns;
	/* Of the thread, when it was looked at last, and what iterations have taken since then. */
	uint64_t last_cpu_ns;
	uint64_t busy_ns;
} loop_delay_t;

/*
 * Measures from now on, until `prepare` is closed; the memory of both must stay until then. Does not keep the loop
 * alive.
 */
void loop_delay_start(loop_delay_t *delay, uv_loop_t *loop, double *into);

#endif
