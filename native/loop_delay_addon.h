/*
 * What addon.c takes into its exports from loop_delay_addon.c.
 */
#ifndef LOOP_DELAY_ADDON_H
#define	LOOP_DELAY_ADDON_H

#include <node_api.h>

/* `exports` with the functions added; NULL with an exception pending. */
napi_value loop_delay_exports(napi_env env, napi_value exports);

#endif
