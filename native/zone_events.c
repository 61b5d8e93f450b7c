/*
 * See zone_events.h. Which thread runs what:
 *
 *   on_change                     libzonecfg's thread, with the mutex of its handle held
 *   section_thread and its calls  the thread that zone_events_open made
 *   all that the header names     the reader's thread
 *
 * Lock order: libzonecfg's mutex, then ours. Ours is never held across a call into libzonecfg, and
 * `wake` is called with it held, so that nobody wakes a reader who has shut the queue.
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
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A queued item, or a command on its way to the section's thread. */
typedef struct node {
	struct node *next;
	/* A result that is not known yet: the reader does not get past it. */
	int pending;
	zone_item_t item;
} node_t;

typedef struct list {
	node_t *head;
	node_t *tail;
} list_t;

struct zone_events {
	void (*wake)(void *);
	void *wake_arg;
	void *handle;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t posted;
	pthread_cond_t ended;
	list_t commands;
	list_t queue;
	uint_t max_events;
	uint_t events;
	/* Events that were lost, and no memory to queue that; told before what is queued. */
	uint_t lost;
	/* The reader was woken and has not seen the queue empty since. */
	int woken;
	/* No wake-ups any more. */
	int deaf;
	int close_posted;
	int thread_ended;
	int joined;
};

static void
append(list_t *list, node_t *node)
{
	node->next = NULL;
	if (list->tail == NULL)
		list->head = node;
	else
		list->tail->next = node;
	list->tail = node;
}

static node_t *
take(list_t *list)
{
	node_t *node = list->head;

	if (node == NULL)
		return (NULL);
	list->head = node->next;
	if (list->head == NULL)
		list->tail = NULL;
	return (node);
}

/* With the mutex held. */
static void
wake(zone_events_t *ze)
{
	if (ze->woken || ze->deaf)
		return;
	if (ze->lost == 0 && (ze->queue.head == NULL || ze->queue.head->pending))
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

/*
 * With the mutex held, an event was lost: the queue's last item says so. There may be no memory for
 * it; then the last event is turned into it, which is only one more that is lost, and where there is
 * none, it is told out of order.
 */
static void
note_lost(zone_events_t *ze, node_t *fresh)
{
	node_t *last = ze->queue.tail;

	if (last != NULL && last->item.kind == ZONE_ITEM_LOST) {
		last->item.lost++;
		free(fresh);
	} else if (fresh != NULL) {
		fresh->item.kind = ZONE_ITEM_LOST;
		fresh->item.lost = 1;
		append(&ze->queue, fresh);
	} else if (last != NULL && last->item.kind == ZONE_ITEM_EVENT) {
		last->item.kind = ZONE_ITEM_LOST;
		last->item.lost = 2;
		ze->events--;
	} else {
		ze->lost++;
	}
}

/* libzonecfg waits for this to return, and so does every zone operation of the node. */
static int
on_change(const char *zonename, zoneid_t zid, const char *newstate, const char *oldstate,
    hrtime_t when, void *p)
{
	zone_events_t *ze = p;
	node_t *node = calloc(1, sizeof (*node));

	if (node != NULL) {
		node->item.kind = ZONE_ITEM_EVENT;
		copy(node->item.zonename, sizeof (node->item.zonename), zonename);
		copy(node->item.newstate, sizeof (node->item.newstate), newstate);
		copy(node->item.oldstate, sizeof (node->item.oldstate), oldstate);
		node->item.zoneid = zid;
		node->item.when = when;
	}
	(void) pthread_mutex_lock(&ze->mutex);
	if (ze->deaf || ze->close_posted) {
		free(node);
	} else if (node == NULL || ze->events >= ze->max_events) {
		note_lost(ze, node);
	} else {
		ze->events++;
		append(&ze->queue, node);
	}
	wake(ze);
	(void) pthread_mutex_unlock(&ze->mutex);
	return (0);
}

/* Carries one command out; `held` is the section's state. No lock of ours is held. */
static int
carry_out(zone_events_t *ze, zone_command_t command, int *held)
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

static void *
section_thread(void *p)
{
	zone_events_t *ze = p;
	zone_command_t command;
	node_t *node;
	int held = 0;
	int result;

	(void) pthread_mutex_lock(&ze->mutex);
	do {
		while ((node = take(&ze->commands)) == NULL)
			(void) pthread_cond_wait(&ze->posted, &ze->mutex);
		command = node->item.command;
		/*
		 * An event can be told as soon as the section is left, before we know that it is. So that
		 * the reader sees the result first, it takes its place in the queue now. Until it is
		 * entered, on the other hand, events are told that come before the result.
		 */
		node->pending = 1;
		if (command != ZONE_COMMAND_ENTER)
			append(&ze->queue, node);
		(void) pthread_mutex_unlock(&ze->mutex);
		result = carry_out(ze, command, &held);
		(void) pthread_mutex_lock(&ze->mutex);
		node->item.result = result;
		node->pending = 0;
		if (command == ZONE_COMMAND_ENTER)
			append(&ze->queue, node);
		if (command == ZONE_COMMAND_CLOSE) {
			ze->thread_ended = 1;
			(void) pthread_cond_broadcast(&ze->ended);
		}
		wake(ze);
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
	} else if (pthread_create(&ze->thread, NULL, section_thread, ze) != 0) {
		zonecfg_notify_unbind(ze->handle);
		err = -EAGAIN;
	}
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	return (err);
}

static void
drop(list_t *list)
{
	node_t *node;

	while ((node = take(list)) != NULL)
		free(node);
}

static void
destroy(zone_events_t *ze)
{
	drop(&ze->commands);
	drop(&ze->queue);
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
	ze->max_events = max_events;
	(void) pthread_mutex_init(&ze->mutex, NULL);
	(void) pthread_cond_init(&ze->posted, NULL);
	(void) pthread_cond_init(&ze->ended, NULL);
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
	node_t *node = calloc(1, sizeof (*node));
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
		append(&ze->commands, node);
		(void) pthread_cond_signal(&ze->posted);
	}
	(void) pthread_mutex_unlock(&ze->mutex);
	return (err);
}

int
zone_events_next(zone_events_t *ze, zone_item_t *item)
{
	node_t *node = NULL;
	uint_t lost;

	(void) pthread_mutex_lock(&ze->mutex);
	if ((lost = ze->lost) > 0)
		ze->lost = 0;
	else if (ze->queue.head != NULL && !ze->queue.head->pending)
		node = take(&ze->queue);
	if (lost == 0 && node == NULL)
		ze->woken = 0;
	else if (node != NULL && node->item.kind == ZONE_ITEM_EVENT)
		ze->events--;
	(void) pthread_mutex_unlock(&ze->mutex);
	if (lost > 0) {
		(void) memset(item, 0, sizeof (*item));
		item->kind = ZONE_ITEM_LOST;
		item->lost = lost;
		return (1);
	}
	if (node == NULL)
		return (0);
	*item = node->item;
	free(node);
	return (1);
}

void
zone_events_rewake(zone_events_t *ze)
{
	(void) pthread_mutex_lock(&ze->mutex);
	ze->woken = 0;
	wake(ze);
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

	(void) clock_gettime(CLOCK_REALTIME, &until);
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
