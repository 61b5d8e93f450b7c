/*
 * What zone_events.c and zone_section.c share: the subscription as both threads see it.
 *
 * Lock order: libzonecfg's mutex, then ours. Ours is never held across a call into libzonecfg.
 */
#ifndef ZONE_EVENTS_IMPL_H
#define	ZONE_EVENTS_IMPL_H

#include <pthread.h>

#include "zone_events.h"
#include "zone_queue.h"

struct zone_events {
	void (*wake)(void *);
	void *wake_arg;
	/* libzonecfg's; the section's thread unbinds it. */
	void *handle;
	pthread_t thread;
	/* Of all below. */
	pthread_mutex_t mutex;
	pthread_cond_t posted;
	pthread_cond_t ended;
	zone_list_t commands;
	zone_queue_t queue;
	/* The reader was woken and has not seen the queue empty since. */
	int woken;
	/* No wake-ups any more. */
	int deaf;
	int close_posted;
	int thread_ended;
	/* The reader's thread's own. */
	int joined;
};

/* With the mutex held: wakes the reader where he has something to take and was not woken yet. */
void zone_events_wake(zone_events_t *ze);

/* zone_section.c: what the section's thread runs, from zone_events_open to CLOSE. */
void *zone_section_thread(void *ze);

#endif
