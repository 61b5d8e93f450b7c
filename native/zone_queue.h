/*
 * The queue of a subscription: events and results of commands, in order and bounded. For zone_events.c, whose mutex
 * protects it: nothing here takes a lock.
 */
#ifndef ZONE_QUEUE_H
#define	ZONE_QUEUE_H

#include "zonecfg_notify.h"

/* A zone's name with its NUL: ZONENAME_MAX, which is in one header or another as platforms go. */
#define	ZONE_EVENT_NAME_MAX	64
/* The longest is "uninitialized"; room for what a later platform may call a state. */
#define	ZONE_EVENT_STATE_MAX	32

typedef enum zone_command {
	ZONE_COMMAND_ENTER,
	ZONE_COMMAND_EXIT,
	ZONE_COMMAND_ABORT,
	/* Leaves the section, unsubscribes, and ends the thread: the last result there is. */
	ZONE_COMMAND_CLOSE
} zone_command_t;

typedef enum zone_item_kind {
	ZONE_ITEM_EVENT,
	/* Events were lost since the item before. */
	ZONE_ITEM_LOST,
	ZONE_ITEM_RESULT
} zone_item_kind_t;

typedef struct zone_item {
	zone_item_kind_t kind;
	/* Of an event. */
	char zonename[ZONE_EVENT_NAME_MAX];
	char newstate[ZONE_EVENT_STATE_MAX];
	char oldstate[ZONE_EVENT_STATE_MAX];
	zoneid_t zoneid;
	hrtime_t when;
	/* Of events that were lost. */
	uint_t lost;
	/* Of a result: 0, 1 (exit: still held), or -errno; and what was posted with the command. */
	zone_command_t command;
	int result;
	void *token;
} zone_item_t;

/* A queued item, or a command on its way to the section's thread. Whoever removes it frees it. */
typedef struct zone_node {
	struct zone_node *next;
	/* A result that is not known yet: the reader waits for it. */
	int pending;
	zone_item_t item;
} zone_node_t;

typedef struct zone_list {
	zone_node_t *head;
	zone_node_t *tail;
} zone_list_t;

/* Zeroed is empty; then `max_events` is set. */
typedef struct zone_queue {
	zone_list_t items;
	uint_t max_events;
	uint_t events;
	/* Events that were lost, and no memory to queue that; delivered before what is queued. */
	uint_t lost;
} zone_queue_t;

void zone_list_append(zone_list_t *list, zone_node_t *node);

/* The first node, which is the caller's then; NULL where there is none. */
zone_node_t *zone_list_remove(zone_list_t *list);

/* Frees all of it. */
void zone_list_clear(zone_list_t *list);

/* Owns the event from now on; NULL is an event that there was no memory for. What finds no room is counted. */
void zone_queue_event(zone_queue_t *queue, zone_node_t *event);

/* Whether zone_queue_next has something to give. */
int zone_queue_ready(const zone_queue_t *queue);

/* Removes the first item. 1, or 0: nothing is ready. */
int zone_queue_next(zone_queue_t *queue, zone_item_t *item);

#endif
