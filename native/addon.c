/*
 * The addon, for JavaScript: what the *_addon.c files each add to its exports. They are glue only: each
 * checks arguments and converts; what is done is in the file that it names.
 *
 * Nothing is global: what lives on hangs on its environment by a cleanup hook, so that every worker may
 * load this.
 */
#include <stddef.h>
#if defined(__linux__)
#include <malloc.h>
#endif

#include "addon.h"

#if defined(__GLIBC__)
/*
 * From here on a block has pages of its own, which go back to the system when it is freed. glibc raises this by
 * itself up to 32 MiB when large blocks come and go, and keeps them in the arena of each thread of the pool:
 * guests that make us read long files would leave them there.
 */
#define	OWN_PAGES_BYTES	(128 * 1024)
#endif

NAPI_MODULE_INIT()
{
#if defined(__GLIBC__)
	(void) mallopt(M_MMAP_THRESHOLD, OWN_PAGES_BYTES);
#endif
	if (calls_exports(env, exports) == NULL || files_exports(env, exports) == NULL ||
	    loop_delay_exports(env, exports) == NULL || metadata_exports(env, exports) == NULL ||
	    sockets_exports(env, exports) == NULL ||
	    zone_events_exports(env, exports) == NULL)
		return (NULL);
	return (zone_facts_exports(env, exports));
}
