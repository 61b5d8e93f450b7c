/*
 * The addon's queue, from open to free, over the emulation's channel: events, their bound, the section.
 */
#define	_GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "emul/emul.h"
#include "emulation.h"
#include "zone_events.h"

static atomic_int woken;

static void
wake(void *arg)
{
	(void) arg;
	(void) atomic_fetch_add(&woken, 1);
}

/* The next item, waiting for it. */
static zone_item_t
next(zone_events_t *ze)
{
	zone_item_t item;
	int attempts;

	for (attempts = 0; attempts < 5000; attempts++) {
		if (zone_events_next(ze, &item) == 1)
			return (item);
		(void) poll(NULL, 0, 1);
	}
	assert(!"an item came");
	return (item);
}

static void
publish(int from, int to)
{
	char event[64];
	int n;

	for (n = from; n <= to; n++) {
		(void) snprintf(event, sizeof (event), "zone-1:1:running:ready:%d\n", n);
		assert(emul_publish(root, event) == 0);
	}
}

static int
result_of(zone_events_t *ze, zone_command_t command)
{
	zone_item_t item;

	assert(zone_events_post(ze, command, &woken) == 0);
	item = next(ze);
	assert(item.kind == ZONE_ITEM_RESULT && item.command == command && item.token == &woken);
	return (item.result);
}

void
events(void)
{
	zone_events_t *ze;
	zone_item_t item;
	int n;

	assert(zone_events_open(wake, NULL, 10, &ze) == 0);
	publish(1, 3);
	for (n = 1; n <= 3; n++) {
		item = next(ze);
		assert(item.kind == ZONE_ITEM_EVENT && item.when == n);
		assert(strcmp(item.zonename, "zone-1") == 0 && item.zoneid == 1);
		assert(strcmp(item.newstate, "running") == 0 && strcmp(item.oldstate, "ready") == 0);
	}
	/* The bound: events beyond it are counted, and the count is delivered instead. */
	publish(1, 15);
	(void) poll(NULL, 0, 100);
	for (n = 1; n <= 10; n++)
		assert(next(ze).when == n);
	item = next(ze);
	assert(item.kind == ZONE_ITEM_LOST && item.lost == 5);

	assert(result_of(ze, ZONE_COMMAND_EXIT) == -EINVAL);
	assert(result_of(ze, ZONE_COMMAND_ENTER) == 0);
	assert(result_of(ze, ZONE_COMMAND_ENTER) == -EALREADY);
	assert(result_of(ze, ZONE_COMMAND_EXIT) == 0);
	assert(result_of(ze, ZONE_COMMAND_ENTER) == 0);
	publish(1, 2);
	assert(result_of(ze, ZONE_COMMAND_EXIT) == 1);
	assert(result_of(ze, ZONE_COMMAND_EXIT) == 0);
	assert(result_of(ze, ZONE_COMMAND_ABORT) == 0);
	assert(result_of(ze, ZONE_COMMAND_ENTER) == 0);
	assert(result_of(ze, ZONE_COMMAND_CLOSE) == 0);
	assert(zone_events_post(ze, ZONE_COMMAND_ENTER, NULL) == -ESHUTDOWN);
	zone_events_free(ze);

	/* The end of a process: in the section, with events and results that nobody took. */
	for (n = 0; n < 20; n++) {
		assert(zone_events_open(wake, NULL, 10, &ze) == 0);
		assert(zone_events_post(ze, ZONE_COMMAND_ENTER, NULL) == 0);
		if (n % 2 == 0)
			assert(zone_events_post(ze, ZONE_COMMAND_EXIT, NULL) == 0);
		publish(1, 3);
		assert(zone_events_shutdown(ze, 5000) == 0);
		zone_events_free(ze);
	}
}
