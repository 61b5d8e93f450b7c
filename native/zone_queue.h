/*
 * The queue of zone_events: events, and the results of commands, in the order in which they came true.
 * Bounded: an event that finds it full is counted, not kept.
 *
 * For zone_events.c and zone_section.c, which serialise all calls on one queue.
 */
#ifndef ZONE_QUEUE_H
#define	ZONE_QUEUE_H

#include "zone_events.h"

/* A queued item, or a command on its way to the section's thread. Whoever takes it out frees it. */
typedef struct zone_node {
	struct zone_node *next;
	/* A result that is not known yet: the reader does not get past it. */
	int pending;
	zone_item_t item;
} zone_node_t;

typedef struct zone_list {
	zone_node_t *head;
	zone_node_t *tail;
} zone_list_t;

typedef struct zone_queue {
	zone_list_t items;
	uint_t max_events;
	uint_t events;
	/* Events that were lost, and no memory to queue that; told before what is queued. */
	uint_t lost;
} zone_queue_t;

void zone_list_append(zone_list_t *list, zone_node_t *node);
/* NULL when it is empty. */
zone_node_t *zone_list_take(zone_list_t *list);
void zone_list_drop(zone_list_t *list);

/* Takes the event over; NULL for one that there was no memory for. */
void zone_queue_event(zone_queue_t *queue, zone_node_t *event);

/* Whether zone_queue_next has something to give. */
int zone_queue_ready(const zone_queue_t *queue);
/* 1, or 0 where it has not. */
int zone_queue_next(zone_queue_t *queue, zone_item_t *item);

#endif
