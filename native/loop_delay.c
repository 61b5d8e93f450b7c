/*
 * See loop_delay.h.
 */
#include "feature_macros.h"

#include "loop_delay.h"

#include <time.h>

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

/*
 * CPU time of the calling thread, user and system. On illumos the same clock: clock_thread_usrsys of
 * uts/common/os/clock_thread.c.
 */
static uint64_t
thread_cpu_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0)
		return (0);
	return ((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
}

static void
count_cpu(loop_delay_t *delay, uint64_t busy)
{
	uint64_t now, used;

	if ((delay->busy_ns += busy) < LOOP_DELAY_CPU_NS)
		return;
	now = thread_cpu_ns();
	used = now - delay->last_cpu_ns;
	delay->last_cpu_ns = now;
	delay->busy_ns = 0;
	/* The short iterations before this one are in `used` too. */
	if (used > busy)
		used = busy;
	if ((double)used > delay->into[1])
		delay->into[1] = (double)used;
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
	delay->into[2 + length_of(busy)] += (double)busy;
	count_cpu(delay, busy);
}

void
loop_delay_start(loop_delay_t *delay, uv_loop_t *loop, double *into)
{
	/* Node's own loops count their waits already; this makes sure of it. */
	(void) uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
	delay->into = into;
	delay->last_ns = uv_hrtime();
	delay->last_idle_ns = uv_metrics_idle_time(loop);
	delay->last_cpu_ns = thread_cpu_ns();
	delay->busy_ns = 0;
	(void) uv_prepare_init(loop, &delay->prepare);
	delay->prepare.data = delay;
	(void) uv_prepare_start(&delay->prepare, on_prepare);
	uv_unref((uv_handle_t *)&delay->prepare);
}
