/*
 * See subscription.h: how one begins and ends. What it tells is in subscription_take.c.
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

#include "subscription.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "napi_call.h"
#include "napi_promise.h"

/*
 * How long the end of a process or worker waits for libzonecfg. Leaving the section waits for an
 * event to come round, which a stuck subscriber elsewhere on the node can hold up for ever.
 */
#define	SHUTDOWN_MS	2000

/* On libzonecfg's thread or the section's. The queue holds one wake-up, or two, of no size. */
static void
wake(void *arg)
{
	subscription_t *sub = arg;

	(void) napi_call_threadsafe_function(sub->tsfn, NULL, napi_tsfn_nonblocking);
}

void
subscription_let_go(subscription_t *sub)
{
	assert(sub->owners > 0);
	if (--sub->owners > 0)
		return;
	assert(sub->events == NULL);
	free(sub);
}

/* The environment ends before the subscription was closed. No JavaScript can run here. */
static void
env_ends(void *arg)
{
	subscription_t *sub = arg;
	zone_events_t *events = sub->events;

	assert(pthread_equal(pthread_self(), sub->env_thread));
	sub->closing = 1;
	sub->events = NULL;
	/* One that libzonecfg does not give back in time is left behind: deaf, never freed. */
	if (zone_events_shutdown(events, SHUTDOWN_MS) == 0)
		zone_events_free(events);
	(void) napi_release_threadsafe_function(sub->tsfn, napi_tsfn_abort);
}

void
subscription_finish(subscription_t *sub)
{
	zone_events_free(sub->events);
	sub->events = NULL;
	(void) napi_remove_env_cleanup_hook(sub->env, env_ends, sub);
	(void) napi_release_threadsafe_function(sub->tsfn, napi_tsfn_release);
}

/* The thread-safe function is gone, and with it the callback. */
static void
tsfn_gone(napi_env env, void *data, void *hint)
{
	subscription_t *sub = data;

	(void) hint;
	if (env != NULL && sub->later != NULL)
		(void) napi_delete_reference(env, sub->later);
	sub->later = NULL;
	subscription_let_go(sub);
}

/* The handle was collected. Nobody can close the subscription any more, so it is closed now. */
static void
handle_gone(napi_env env, void *data, void *hint)
{
	subscription_t *sub = data;

	(void) env;
	(void) hint;
	if (!sub->closing) {
		/* Without memory for the command, the end of the environment closes it. */
		(void) subscription_post(sub, ZONE_COMMAND_CLOSE, NULL);
		sub->closing = 1;
	}
	subscription_let_go(sub);
}

/* Makes both owners. On failure an exception is pending, and what was made goes by itself. */
static napi_value
make_owners(napi_env env, napi_value handle, napi_value on_item, napi_value later,
    subscription_t *sub)
{
	napi_value name;

	CALL(env, napi_create_string_utf8(env, "mdatad:zone-events", NAPI_AUTO_LENGTH, &name));
	CALL(env, napi_wrap(env, handle, sub, handle_gone, NULL, NULL));
	sub->owners++;
	CALL(env, napi_create_threadsafe_function(env, on_item, NULL, name, 0, 1, sub, tsfn_gone, sub,
	    subscription_take, &sub->tsfn));
	sub->owners++;
	CALL(env, napi_create_reference(env, later, 1, &sub->later));
	return (handle);
}

napi_value
subscription_open(napi_env env, napi_value handle, napi_value on_item, napi_value later,
    uint32_t max_events)
{
	subscription_t *sub = calloc(1, sizeof (*sub));
	int owned, err;

	if (sub == NULL) {
		(void) napi_throw_error(env, "ENOMEM", "bind");
		return (NULL);
	}
	sub->env = env;
	sub->env_thread = pthread_self();
	owned = make_owners(env, handle, on_item, later, sub) != NULL;
	err = owned ? zone_events_open(wake, sub, max_events, &sub->events) : -EINVAL;
	if (err == 0) {
		/* After the thread-safe function's own hook was added, so it runs before that one. */
		if (napi_add_env_cleanup_hook(env, env_ends, sub) == napi_ok)
			return (handle);
		env_ends(sub);
		err = -ENOMEM;
	} else if (sub->tsfn != NULL) {
		(void) napi_release_threadsafe_function(sub->tsfn, napi_tsfn_abort);
	} else if (sub->owners == 0) {
		free(sub);
	}
	if (owned)
		(void) napi_throw(env, napi_promise_error(env, err));
	return (NULL);
}

int
subscription_post(subscription_t *sub, zone_command_t command, napi_deferred deferred)
{
	int err;

	if (sub->events == NULL)
		return (-ESHUTDOWN);
	if ((err = zone_events_post(sub->events, command, deferred)) != 0)
		return (err);
	if (command == ZONE_COMMAND_CLOSE)
		sub->closing = 1;
	return (0);
}
