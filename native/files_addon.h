/*
 * What addon.c takes into its exports from files_addon.c.
 */
#ifndef FILES_ADDON_H
#define	FILES_ADDON_H

#include <node_api.h>

/* `exports` with the functions added; NULL with an exception pending. */
napi_value files_exports(napi_env env, napi_value exports);

#endif
