/*
 * What addon.c takes into its exports from metadata_addon.c.
 */
#ifndef METADATA_ADDON_H
#define	METADATA_ADDON_H

#include <node_api.h>

/* `exports` with the functions added; NULL with an exception pending. */
napi_value metadata_exports(napi_env env, napi_value exports);

#endif
