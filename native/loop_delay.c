/*
 * See loop_delay.h.
 */
#include "loop_delay.h"

#define	NS_PER_US	1000
#define	PARTS		4
#define	PARTS_LOG2	2

static int
length_of(uint64_t ns)
{
	uint64_t us = ns / NS_PER_US;
	int power, length;

	if (us < PARTS)
		return ((int)us);
	power = 63 - __builtin_clzll(us);
	length = (power - 1) * PARTS + (int)((us >> (power - PARTS_LOG2)) % PARTS);
	return (length < LOOP_DELAY_LENGTHS ? length : LOOP_DELAY_LENGTHS - 1);
}

/* An iteration ends here: the wait follows. */
static void
on_prepare(uv_prepare_t *prepare)
{
	loop_delay_t *delay = prepare->data;
	uint64_t now = uv_hrtime(), idle = uv_metrics_idle_time(prepare->loop);
	uint64_t all = now - delay->last_ns, waited = idle - delay->last_idle_ns;
	uint64_t busy = all > waited ? all - waited : 0;

	delay->last_ns = now;
	delay->last_idle_ns = idle;
	if ((double)busy > delay->into[0])
		delay->into[0] = (double)busy;
	delay->into[1 + length_of(busy)] += (double)busy;
}

void
loop_delay_start(loop_delay_t *delay, uv_loop_t *loop, double *into)
{
	/* Node's own loops count their waits already; this makes sure of it. */
	(void) uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
	delay->into = into;
	delay->last_ns = uv_hrtime();
	delay->last_idle_ns = uv_metrics_idle_time(loop);
	(void) uv_prepare_init(loop, &delay->prepare);
	delay->prepare.data = delay;
	(void) uv_prepare_start(&delay->prepare, on_prepare);
	uv_unref((uv_handle_t *)&delay->prepare);
}

void
loop_delay_stop(loop_delay_t *delay)
{
	(void) uv_prepare_stop(&delay->prepare);
}
