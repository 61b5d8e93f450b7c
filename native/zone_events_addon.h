/*
 * What addon.c takes into its exports from zone_events_addon.c.
 */
#ifndef ZONE_EVENTS_ADDON_H
#define	ZONE_EVENTS_ADDON_H

#include <node_api.h>

/* `exports` with the functions added; NULL with an exception pending. */
napi_value zone_events_exports(napi_env env, napi_value exports);

#endif
