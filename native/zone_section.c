/*
 * The section's thread of zone_events: it carries commands out, one after the other, in libzonecfg's
 * critical section, which the thread that entered it must leave.
 */
#ifdef __sun
/* Under -std=c11 the system's headers would hide POSIX. */
#ifndef __EXTENSIONS__
#define	__EXTENSIONS__
#endif
#ifndef _POSIX_PTHREAD_SEMANTICS
#define	_POSIX_PTHREAD_SEMANTICS
#endif
#endif

#include <errno.h>

#include "zone_events_impl.h"

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

void *
zone_section_thread(void *p)
{
	zone_events_t *ze = p;
	zone_command_t command;
	zone_node_t *node;
	int held = 0;
	int result;

	(void) pthread_mutex_lock(&ze->mutex);
	do {
		while ((node = zone_list_take(&ze->commands)) == NULL)
			(void) pthread_cond_wait(&ze->posted, &ze->mutex);
		command = node->item.command;
		/*
		 * An event can be told as soon as the section is left, before we know that it is. So that
		 * the reader sees the result first, it takes its place in the queue now. Until it is
		 * entered, on the other hand, events are told that come before the result.
		 */
		node->pending = 1;
		if (command != ZONE_COMMAND_ENTER)
			zone_list_append(&ze->queue.items, node);
		(void) pthread_mutex_unlock(&ze->mutex);
		result = carry_out(ze, command, &held);
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
