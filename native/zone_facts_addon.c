/*
 * The glue of zone_facts: liveZones() -> [name, status, id, name, status, id, ...], or the negative errno. And
 * setRoot(root): libzonecfg of this process works below it from now on, before any call by ffi has to be there.
 */
#include <stdlib.h>

#include "addon.h"
#include "napi_call.h"
#include "zone_facts.h"
#include "zonecfg_notify.h"

static napi_value
to_array(napi_env env, const live_zone_t *zones, size_t count)
{
	napi_value result, member;
	uint32_t i;

	CALL(env, napi_create_array_with_length(env, 3 * count, &result));
	for (i = 0; i < count; i++) {
		CALL(env, napi_create_string_utf8(env, zones[i].name, NAPI_AUTO_LENGTH, &member));
		CALL(env, napi_set_element(env, result, 3 * i, member));
		CALL(env, napi_create_int32(env, zones[i].status, &member));
		CALL(env, napi_set_element(env, result, 3 * i + 1, member));
		CALL(env, napi_create_int32(env, zones[i].id, &member));
		CALL(env, napi_set_element(env, result, 3 * i + 2, member));
	}
	return (result);
}

static napi_value
js_live_zones(napi_env env, napi_callback_info info)
{
	napi_value result;
	live_zone_t *zones;
	size_t count;
	int err = zone_facts_live(&zones, &count);

	(void) info;
	if (err != 0) {
		CALL(env, napi_create_int32(env, err, &result));
		return (result);
	}
	result = to_array(env, zones, count);
	free(zones);
	return (result);
}

static napi_value
js_set_root(napi_env env, napi_callback_info info)
{
	char root[NAPI_CALL_PATH_BYTES];
	size_t argc = 1;
	napi_value arg;

	CALL(env, napi_get_cb_info(env, info, &argc, &arg, NULL, NULL));
	CALL(env, napi_get_value_string_utf8(env, arg, root, sizeof (root), NULL));
	zonecfg_set_root(root);
	return (NULL);
}

napi_value
zone_facts_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "liveZones", js_live_zones },
		{ "setRoot", js_set_root },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
