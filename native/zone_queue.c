/*
 * See zone_queue.h.
 */
#include "zone_queue.h"

#include <stdlib.h>
#include <string.h>

void
zone_list_append(zone_list_t *list, zone_node_t *node)
{
	node->next = NULL;
	if (list->tail == NULL)
		list->head = node;
	else
		list->tail->next = node;
	list->tail = node;
}

zone_node_t *
zone_list_remove(zone_list_t *list)
{
	zone_node_t *node = list->head;

	if (node == NULL)
		return (NULL);
	list->head = node->next;
	if (list->head == NULL)
		list->tail = NULL;
	return (node);
}

void
zone_list_clear(zone_list_t *list)
{
	zone_node_t *node;

	while ((node = zone_list_remove(list)) != NULL)
		free(node);
}

/*
 * An event was lost: the queue's last item says so. Without memory for such an item the last event becomes
 * it, which loses one more, and where there is no event the loss is delivered out of order.
 */
static void
note_lost(zone_queue_t *queue, zone_node_t *fresh)
{
	zone_node_t *last = queue->items.tail;

	if (last != NULL && last->item.kind == ZONE_ITEM_LOST) {
		last->item.lost++;
		free(fresh);
	} else if (fresh != NULL) {
		fresh->item.kind = ZONE_ITEM_LOST;
		fresh->item.lost = 1;
		zone_list_append(&queue->items, fresh);
	} else if (last != NULL && last->item.kind == ZONE_ITEM_EVENT) {
		last->item.kind = ZONE_ITEM_LOST;
		last->item.lost = 2;
		queue->events--;
	} else {
		queue->lost++;
	}
}

void
zone_queue_event(zone_queue_t *queue, zone_node_t *event)
{
	if (event == NULL || queue->events >= queue->max_events) {
		note_lost(queue, event);
		return;
	}
	queue->events++;
	zone_list_append(&queue->items, event);
}

int
zone_queue_ready(const zone_queue_t *queue)
{
	const zone_node_t *head = queue->items.head;

	return (queue->lost > 0 || (head != NULL && !head->pending));
}

int
zone_queue_next(zone_queue_t *queue, zone_item_t *item)
{
	zone_node_t *node;

	if (!zone_queue_ready(queue))
		return (0);
	if (queue->lost > 0) {
		(void) memset(item, 0, sizeof (*item));
		item->kind = ZONE_ITEM_LOST;
		item->lost = queue->lost;
		queue->lost = 0;
		return (1);
	}
	node = zone_list_remove(&queue->items);
	if (node->item.kind == ZONE_ITEM_EVENT)
		queue->events--;
	*item = node->item;
	free(node);
	return (1);
}
