/*
 * Zone state changes as libzonecfg gives them. The library exports these functions, but no header of
 * the platform declares them.
 */
#ifndef ZONECFG_NOTIFY_H
#define	ZONECFG_NOTIFY_H

#ifdef __sun
#include <sys/types.h>
#include <sys/time.h>
#define	ZONECFG_EXPORT
/* libzonecfg.h has it, which is no public header. It copies the string (libzonecfg.c). */
void zonecfg_set_root(const char *root);
#else
#include "emul/illumos.h"
#define	ZONECFG_EXPORT	PLATFORM_EXPORT
#endif

typedef int (*zonecfg_notify_func_t)(const char *zonename, zoneid_t zid, const char *newstate,
    const char *oldstate, hrtime_t when, void *p);

/* NULL on failure, without a reason. `func` runs on a thread of the library and must not block. */
ZONECFG_EXPORT void *zonecfg_notify_bind(zonecfg_notify_func_t func, void *p);
/* Not from within `func`, and not while the critical section is held. `func` never runs afterwards. */
ZONECFG_EXPORT void zonecfg_notify_unbind(void *handle);
/* The thread that enters must be the one that exits or aborts: a mutex is held in between. */
ZONECFG_EXPORT void zonecfg_notify_critical_enter(void *handle);
/* 0: left. 1: an event came in meanwhile, and the section is still held. */
ZONECFG_EXPORT int zonecfg_notify_critical_exit(void *handle);
ZONECFG_EXPORT void zonecfg_notify_critical_abort(void *handle);

#endif
