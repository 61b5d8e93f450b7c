/*
 * The glue of loop_delay: watchLoop(into) fills a Float64Array as loop_delay.h says, from now on. A watch lives to the
 * end of its environment, and holds its array that long.
 */
#include <stdlib.h>

#include "addon.h"
#include "loop_delay.h"
#include "napi_call.h"

typedef struct watch {
	loop_delay_t delay;
	napi_env env;
	napi_ref into;
	napi_async_cleanup_hook_handle hook;
} watch_t;

static void
on_closed(uv_handle_t *prepare)
{
	loop_delay_t *delay = prepare->data;
	/* It is the first member. */
	watch_t *watch = (watch_t *)delay;
	napi_async_cleanup_hook_handle hook = watch->hook;

	(void) napi_delete_reference(watch->env, watch->into);
	free(watch);
	(void) napi_remove_async_cleanup_hook(hook);
}

static void
env_ends(napi_async_cleanup_hook_handle hook, void *arg)
{
	watch_t *watch = arg;

	watch->hook = hook;
	uv_close((uv_handle_t *)&watch->delay.prepare, on_closed);
}

static napi_value
js_watch(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value into;
	uv_loop_t *loop;
	double *numbers;
	watch_t *watch;

	CALL(env, napi_get_cb_info(env, info, &argc, &into, NULL, NULL));
	CALL(env, napi_get_uv_event_loop(env, &loop));
	numbers = napi_call_array(env, into, napi_float64_array, LOOP_DELAY_NUMBERS,
	    "watchLoop(into)");
	if (numbers == NULL)
		return (NULL);
	if ((watch = calloc(1, sizeof (*watch))) == NULL) {
		(void) napi_throw_error(env, "ENOMEM", "watchLoop");
		return (NULL);
	}
	watch->env = env;
	if (napi_create_reference(env, into, 1, &watch->into) != napi_ok ||
	    napi_add_async_cleanup_hook(env, env_ends, watch, &watch->hook) != napi_ok) {
		if (watch->into != NULL)
			(void) napi_delete_reference(env, watch->into);
		free(watch);
		napi_call_throw(env, "watchLoop");
		return (NULL);
	}
	loop_delay_start(&watch->delay, loop, numbers);
	return (NULL);
}

napi_value
loop_delay_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "watchLoop", js_watch },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
