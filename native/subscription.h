/*
 * A subscription of JavaScript's to zone state changes: zone_events on the loop of one environment.
 *
 *   zone_events -- wake, any thread --> thread-safe function --> on_wake, on the loop
 *
 * Its end has one order: the source is detached (nobody calls wake any more), then the loop is
 * released, then the callback, then the memory, when its owners have released it: the handle, by
 * garbage collection, the thread-safe function, and the rest of a burst that waits for a later iteration.
 *
 * For zone_events_addon.c and the subscription*.c files. All but `wake` is called on the environment's
 * own thread, so nothing here is locked.
 */
#ifndef SUBSCRIPTION_H
#define	SUBSCRIPTION_H

#include <node_api.h>
#include <pthread.h>

#include "zone_events.h"

typedef struct subscription {
	napi_env env;
	pthread_t env_thread;
	napi_threadsafe_function tsfn;
	/* NULL when the source is detached. */
	zone_events_t *events;
	/* A function of JavaScript that calls another in a later iteration of the loop. */
	napi_ref later;
	/* Set by close: what is still queued is dropped. */
	int closing;
	int owners;
} subscription_t;

/*
 * Subscribes, and wraps the subscription in `handle`, an empty object: without it, it ends. The handle,
 * or NULL with an exception pending.
 */
napi_value subscription_open(napi_env env, napi_value handle, napi_value on_item, napi_value later,
    uint32_t max_events);

/* The result settles `deferred`. Otherwise -ENOMEM, or -ESHUTDOWN, and the deferred is the caller's. */
int subscription_post(subscription_t *sub, zone_command_t command, napi_deferred deferred);

#endif
