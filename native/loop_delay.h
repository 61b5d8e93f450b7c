/*
 * How long a loop's turns take: what a guest that asks meanwhile has to wait. It costs the loop some
 * 100 ns a turn and never wakes it.
 *
 * A turn is what the loop does between two waits for the kernel, without the waits. So what the node's
 * scheduler lets a loop wait before it runs at all is not in it.
 */
#ifndef LOOP_DELAY_H
#define	LOOP_DELAY_H

#include <stdint.h>
#include <uv.h>

/*
 * By length: nanoseconds that turns of that length took together. 0 to 3 are for turns of that many whole
 * microseconds; behind them each power of two has four, and the last one takes what is longer.
 */
#define	LOOP_DELAY_LENGTHS	128
/* The longest turn, ns, and then the lengths. */
#define	LOOP_DELAY_NUMBERS	(1 + LOOP_DELAY_LENGTHS)

typedef struct loop_delay {
	uv_prepare_t prepare;
	/* LOOP_DELAY_NUMBERS of the caller's, who may clear them between two turns. */
	double *into;
	uint64_t last_ns;
	uint64_t last_idle_ns;
} loop_delay_t;

/* Measures from now on; the memory of both must stay until the handle is closed. Holds no loop alive. */
void loop_delay_start(loop_delay_t *delay, uv_loop_t *loop, double *into);

/* Adds nothing any more. `prepare` is left to be closed. Idempotent. */
void loop_delay_stop(loop_delay_t *delay);

#endif
