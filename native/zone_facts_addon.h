/*
 * What addon.c takes into its exports from zone_facts_addon.c.
 */
#ifndef ZONE_FACTS_ADDON_H
#define	ZONE_FACTS_ADDON_H

#include <node_api.h>

/* `exports` with the function added; NULL with an exception pending. */
napi_value zone_facts_exports(napi_env env, napi_value exports);

#endif
