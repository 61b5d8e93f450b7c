/*
 * What addon.c takes into its exports from calls_addon.c.
 */
#ifndef CALLS_ADDON_H
#define	CALLS_ADDON_H

#include <node_api.h>

/* `exports` with the functions added; NULL with an exception pending. */
napi_value calls_exports(napi_env env, napi_value exports);

#endif
