/*
 * A subscription to zone state changes that never blocks whoever reads it: the pure C under the addon.
 *
 * One queue holds events and the results of commands in the order in which they came true. It is
 * bounded: an event that finds it full is counted, not kept, and the reader has to list the zones again.
 *
 *   libzonecfg's thread --- event ---+
 *                                    +--> queue --- wake() ---> the reader's loop: zone_events_next
 *   the section's thread -- result --+
 *         ^                                                              |
 *         +------------------------- zone_events_post -------------------+
 *
 * The section's thread exists because libzonecfg's critical section must be left by the thread that
 * entered it, and because leaving blocks until an event has come back through the channel.
 */
#ifndef ZONE_EVENTS_H
#define	ZONE_EVENTS_H

#include "zone_queue.h"

typedef struct zone_events zone_events_t;

/*
 * Subscribes. `wake` is called on either thread when the queue holds something and the reader was not
 * woken since it last saw the queue empty; it must not block. `max_events` bounds the queue.
 * 0, -ENOMEM, -EAGAIN (no thread), -EIO (libzonecfg refused, it gives no reason).
 */
int zone_events_open(void (*wake)(void *), void *arg, uint_t max_events, zone_events_t **out);

/*
 * Has the section's thread do something; the result comes through the queue, in order. Never blocks.
 * 0, -ENOMEM, or -ESHUTDOWN after CLOSE. EXIT without ENTER gives -EINVAL as its result, ENTER while
 * held -EALREADY, ABORT without ENTER 0.
 */
int zone_events_post(zone_events_t *ze, zone_command_t command, void *token);

/* Removes the next item. 1, or 0: the queue is empty, and `wake` will be called for the next. Reader only. */
int zone_events_next(zone_events_t *ze, zone_item_t *item);

/* Asks for another wake-up, for a reader that stops before the queue is empty. Reader only. */
void zone_events_rewake(zone_events_t *ze);

/*
 * Closes now: posts CLOSE where nobody did and waits. `wake` is never called after it returned.
 * 0: closed. -ETIMEDOUT: libzonecfg holds the thread; the subscription must then never be freed.
 */
int zone_events_shutdown(zone_events_t *ze, uint_t timeout_ms);

/* After CLOSE's result was read, or after zone_events_shutdown returned 0. Drops what is queued. */
void zone_events_free(zone_events_t *ze);

#endif
