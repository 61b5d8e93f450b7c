/*
 * What addon.c takes into its exports from sockets_addon.c.
 */
#ifndef SOCKETS_ADDON_H
#define	SOCKETS_ADDON_H

#include <node_api.h>

/* `exports` with the functions added; NULL with an exception pending. */
napi_value sockets_exports(napi_env env, napi_value exports);

#endif
