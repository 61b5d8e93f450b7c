/*
 * See zone_events.h. Which thread runs what:
 *
 *   on_change                  libzonecfg's thread, with the mutex of its handle held
 *   zone_section_thread        the thread that zone_events_open made: it executes commands, one after the other,
 *                              as the thread that enters libzonecfg's critical section must leave it
 *   all that the header names  the reader's thread
 *
 * Lock order: libzonecfg's mutex, then ours. Ours is never held across a call into libzonecfg. `wake` is
 * called with our mutex held, so that nobody wakes a reader who has shut the queue.
 */
#include "feature_macros.h"

#include "zone_events.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
	int closed;
	int close_posted;
	int thread_ended;
	/* The reader's thread's own. */
	int joined;
};

/* With the mutex held: wakes the reader where there is something to take and he was not woken yet. */
static void
zone_events_wake(zone_events_t *ze)
{
	if (ze->woken || ze->closed || !zone_queue_ready(&ze->queue))
		return;
	ze->woken = 1;
	ze->wake(ze->wake_arg);
}

static void
copy(char *to, size_t room, const char *from)
{
	size_t len = from == NULL ? 0 : strlen(from);

	if (len >= room)
		len = room - 1;
	if (len > 0)
		(void) memcpy(to, from, len);
	to[len] = '\0';
}

/* libzonecfg waits for this to return, and so does every zone operation of the node. */
static int
on_change(const char *zonename, zoneid_t zid, const char *newstate, const char *oldstate,
    hrtime_t when, void *p)
{
	zone_events_t *ze = p;
	zone_node_t *node = calloc(1, sizeof (*node));

	if (node != NULL) {
		node->item.kind = ZONE_ITEM_EVENT;
		copy(node->item.zonename, sizeof (node->item.zonename), zonename);
		copy(node->item.newstate, sizeof (node->item.newstate), newstate);
		copy(node->item.oldstate, sizeof (node->item.oldstate), oldstate);
		node->item.zoneid = zid;
		node->item.when = when;
	}
	(void) pthread_mutex_lock(&ze->mutex);
	if (ze->closed || ze->close_posted)
		free(node);
	else
		zone_queue_event(&ze->queue, node);
	zone_events_wake(ze);
	(void) pthread_mutex_unlock(&ze->mutex);
	return (0);
}

/* Executes one command; `held` is the section's state. No lock of ours is held. */
static int
execute(zone_events_t *ze, zone_command_t command, int *held)
{
	int again;

	switch (command) {
	case ZONE_COMMAND_ENTER:
		if (*held)
			return (-EALREADY);
		zonecfg_notify_critical_enter(ze->handle);
		*held = 1;
		return (0);
	case ZONE_COMMAND_EXIT:
		if (!*held)
			return (-EINVAL);
		again = zonecfg_notify_critical_exit(ze->handle) != 0;
		*held = again;
		return (again);
	case ZONE_COMMAND_ABORT:
		if (*held)
			zonecfg_notify_critical_abort(ze->handle);
		*held = 0;
		return (0);
	case ZONE_COMMAND_CLOSE:
		if (*held)
			zonecfg_notify_critical_abort(ze->handle);
		*held = 0;
		zonecfg_notify_unbind(ze->handle);
		ze->handle = NULL;
		return (0);
	}
	return (-EINVAL);
}

/* From zone_events_open to CLOSE. */
static void *
zone_section_thread(void *p)
{
	zone_events_t *ze = p;
	zone_command_t command;
	zone_node_t *node;
	int held = 0;
	int result;

	(void) pthread_mutex_lock(&ze->mutex);
	do {
		while ((node = zone_list_remove(&ze->commands)) == NULL)
			(void) pthread_cond_wait(&ze->posted, &ze->mutex);
		command = node->item.command;
		/*
		 * An event can be delivered as soon as the section is left, before we know that it is. So that
		 * the reader sees the result first, it takes its place in the queue now. Until it is
		 * entered, on the other hand, events are delivered that come before the result.
		 */
		node->pending = 1;
		if (command != ZONE_COMMAND_ENTER)
			zone_list_append(&ze->queue.items, node);
		(void) pthread_mutex_unlock(&ze->mutex);
		result = execute(ze, command, &held);
		(void) pthread_mutex_lock(&ze->mutex);
		node->item.result = result;
		node->pending = 0;
		if (command == ZONE_COMMAND_ENTER)
			zone_list_append(&ze->queue.items, node);
		if (command == ZONE_COMMAND_CLOSE) {
			ze->thread_ended = 1;
			(void) pthread_cond_broadcast(&ze->ended);
		}
		zone_events_wake(ze);
	} while (command != ZONE_COMMAND_CLOSE);
	(void) pthread_mutex_unlock(&ze->mutex);
	return (NULL);
}

/* Signals are for the program's own threads; those that libzonecfg makes inherit the mask too. */
static int
bind_and_start(zone_events_t *ze)
{
	sigset_t all, before;
	int err = 0;

	(void) sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, &before);
	ze->handle = zonecfg_notify_bind(on_change, ze);
	if (ze->handle == NULL) {
		err = -EIO;
	} else if (pthread_create(&ze->thread, NULL, zone_section_thread, ze) != 0) {
		zonecfg_notify_unbind(ze->handle);
		err = -EAGAIN;
	}
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	return (err);
}

/* The deadline of an end must not move with the clock of the day. */
static int
make_locks(zone_events_t *ze)
{
	pthread_condattr_t attr;
	int err;

	if ((err = pthread_condattr_init(&attr)) != 0)
		return (-err);
	if ((err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC)) == 0)
		err = pthread_cond_init(&ze->ended, &attr);
	(void) pthread_condattr_destroy(&attr);
	if (err != 0)
		return (-err);
	(void) pthread_mutex_init(&ze->mutex, NULL);
	(void) pthread_cond_init(&ze->posted, NULL);
	return (0);
}

static void
destroy(zone_events_t *ze)
{
	zone_list_clear(&ze->commands);
	zone_list_clear(&ze->queue.items);
	(void) pthread_cond_destroy(&ze->ended);
	(void) pthread_cond_destroy(&ze->posted);
	(void) pthread_mutex_destroy(&ze->mutex);
	free(ze);
}

int
zone_events_open(void (*wake_func)(void *), void *arg, uint_t max_events, zone_events_t **out)
{
	zone_events_t *ze = calloc(1, sizeof (*ze));
	int err;

	if (ze == NULL)
		return (-ENOMEM);
	ze->wake = wake_func;
	ze->wake_arg = arg;
	ze->queue.max_events = max_events;
	if ((err = make_locks(ze)) != 0) {
		free(ze);
		return (err);
	}
	err = bind_and_start(ze);
	if (err != 0) {
		destroy(ze);
		return (err);
	}
	*out = ze;
	return (0);
}

int
zone_events_post(zone_events_t *ze, zone_command_t command, void *token)
{
	zone_node_t *node = calloc(1, sizeof (*node));
	int err = 0;

	if (node == NULL)
		return (-ENOMEM);
	node->item.kind = ZONE_ITEM_RESULT;
	node->item.command = command;
	node->item.token = token;
	(void) pthread_mutex_lock(&ze->mutex);
	if (ze->close_posted) {
		err = -ESHUTDOWN;
		free(node);
	} else {
		ze->close_posted = command == ZONE_COMMAND_CLOSE;
		zone_list_append(&ze->commands, node);
		(void) pthread_cond_signal(&ze->posted);
	}
	(void) pthread_mutex_unlock(&ze->mutex);
	return (err);
}

int
zone_events_next(zone_events_t *ze, zone_item_t *item)
{
	int got;

	(void) pthread_mutex_lock(&ze->mutex);
	if ((got = zone_queue_next(&ze->queue, item)) == 0)
		ze->woken = 0;
	(void) pthread_mutex_unlock(&ze->mutex);
	return (got);
}

void
zone_events_rewake(zone_events_t *ze)
{
	(void) pthread_mutex_lock(&ze->mutex);
	ze->woken = 0;
	zone_events_wake(ze);
	(void) pthread_mutex_unlock(&ze->mutex);
}

static void
join(zone_events_t *ze)
{
	if (!ze->joined)
		(void) pthread_join(ze->thread, NULL);
	ze->joined = 1;
}

int
zone_events_shutdown(zone_events_t *ze, uint_t timeout_ms)
{
	struct timespec until;
	int ended;
	int err = zone_events_post(ze, ZONE_COMMAND_CLOSE, NULL);

	(void) clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void) pthread_mutex_lock(&ze->mutex);
	ze->closed = 1;
	/* Without memory for the command there is nothing to wait for. */
	while (!ze->thread_ended && err != -ENOMEM &&
	    pthread_cond_timedwait(&ze->ended, &ze->mutex, &until) == 0)
		;
	ended = ze->thread_ended;
	(void) pthread_mutex_unlock(&ze->mutex);
	if (!ended)
		return (-ETIMEDOUT);
	join(ze);
	return (0);
}

void
zone_events_free(zone_events_t *ze)
{
	/* It has given its last result, so this waits for a return at most. */
	join(ze);
	destroy(ze);
}
