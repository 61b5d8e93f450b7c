/*
 * See zone_events.h. Which thread runs what:
 *
 *   on_change                  libzonecfg's thread, with the mutex of its handle held
 *   zone_section.c             the thread that zone_events_open made
 *   all that the header names  the reader's thread
 *
 * `wake` is called with our mutex held, so that nobody wakes a reader who has shut the queue.
 */
#ifdef __sun
/* Under -std=c11 the system's headers would hide POSIX. */
#ifndef __EXTENSIONS__
#define	__EXTENSIONS__
#endif
#ifndef _POSIX_PTHREAD_SEMANTICS
#define	_POSIX_PTHREAD_SEMANTICS
#endif
#else
#ifndef _GNU_SOURCE
#define	_GNU_SOURCE
#endif
#endif

#include "zone_events.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "zone_events_impl.h"

void
zone_events_wake(zone_events_t *ze)
{
	if (ze->woken || ze->deaf || !zone_queue_ready(&ze->queue))
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
	if (ze->deaf || ze->close_posted)
		free(node);
	else
		zone_queue_event(&ze->queue, node);
	zone_events_wake(ze);
	(void) pthread_mutex_unlock(&ze->mutex);
	return (0);
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
	zone_list_drop(&ze->commands);
	zone_list_drop(&ze->queue.items);
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
	ze->deaf = 1;
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
