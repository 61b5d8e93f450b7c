/*
 * The parts of the addon, each in the *_addon.c of its name: `exports` with the part's functions added, or NULL with an
 * exception pending.
 */
#ifndef ADDON_H
#define	ADDON_H

#include <node_api.h>

napi_value calls_exports(napi_env env, napi_value exports);
napi_value files_exports(napi_env env, napi_value exports);
napi_value loop_delay_exports(napi_env env, napi_value exports);
napi_value metadata_exports(napi_env env, napi_value exports);
napi_value sockets_exports(napi_env env, napi_value exports);
napi_value zone_events_exports(napi_env env, napi_value exports);
napi_value zone_facts_exports(napi_env env, napi_value exports);

#endif
