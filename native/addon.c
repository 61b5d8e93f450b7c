/*
 * The addon, for JavaScript: what the *_addon.c files each add to its exports. They are glue only: each
 * checks arguments and converts; what is done is in the file that it names.
 *
 * Nothing is global: what lives on hangs on its environment by a cleanup hook, so that every worker may
 * load this.
 */
#include <stddef.h>

#include "calls_addon.h"
#include "files_addon.h"
#include "loop_delay_addon.h"
#include "metadata_addon.h"
#include "sockets_addon.h"
#include "zone_events_addon.h"
#include "zone_facts_addon.h"

NAPI_MODULE_INIT()
{
	if (calls_exports(env, exports) == NULL || files_exports(env, exports) == NULL ||
	    loop_delay_exports(env, exports) == NULL || metadata_exports(env, exports) == NULL ||
	    sockets_exports(env, exports) == NULL ||
	    zone_events_exports(env, exports) == NULL)
		return (NULL);
	return (zone_facts_exports(env, exports));
}
