/*
 * The glue of zone_facts: zoneFacts(zonename, into) -> [brand, zonepath], or null where a call failed.
 */
#include "napi_call.h"
#include "zone_facts.h"
#include "zone_facts_addon.h"

/* The code, the call that failed, the state: src/sys/zone-facts.ts. */
#define	INTO_MEMBERS	3

/* Longer than any zone's name: what is cut here is a name that the library knows nothing of. */
#define	NAME_BYTES	256

static napi_value
js_zone_facts(napi_env env, napi_callback_info info)
{
	char zonename[NAME_BYTES];
	napi_value argv[2], result, text;
	size_t argc = 2;
	zone_facts_t facts;
	int32_t *into;

	CALL(env, napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
	CALL(env, napi_get_value_string_utf8(env, argv[0], zonename, sizeof (zonename), NULL));
	into = napi_call_array(env, argv[1], napi_int32_array, INTO_MEMBERS,
	    "zoneFacts(zonename, into)");
	if (into == NULL)
		return (NULL);
	into[0] = zone_facts(zonename, &facts);
	into[1] = (int32_t)facts.call;
	if (into[0] != 0) {
		CALL(env, napi_get_null(env, &result));
		return (result);
	}
	into[2] = (int32_t)facts.state;
	CALL(env, napi_create_array_with_length(env, 2, &result));
	CALL(env, napi_create_string_utf8(env, facts.brand, NAPI_AUTO_LENGTH, &text));
	CALL(env, napi_set_element(env, result, 0, text));
	CALL(env, napi_create_string_utf8(env, facts.zonepath, NAPI_AUTO_LENGTH, &text));
	CALL(env, napi_set_element(env, result, 1, text));
	return (result);
}

napi_value
zone_facts_exports(napi_env env, napi_value exports)
{
	static const napi_call_function_t FUNCTIONS[] = {
		{ "zoneFacts", js_zone_facts },
	};

	return (napi_call_exports(env, exports, NAPI_CALL_ALL(FUNCTIONS)));
}
