/*
 * The node's kernel and zoneadmd as simcn simulates them.
 *
 * The library that these functions live in has two faces. The one is the platform's: zone_list,
 * zone_get_state, zonecfg_notify_bind, mount, getpeerucred and the rest, with their real names and
 * ABI, for programs that would run on SmartOS unchanged. The other is this header: what happens on a
 * real node below those calls, and what only a simulated node lets anybody do.
 *
 * All state lies in files below an alternate root, so any number of processes see one node. The
 * platform's functions work on the root that zonecfg_set_root() named last, as on the platform; the
 * functions here are given the root, so that one process may have several nodes.
 *
 *   <root>/etc/zones/index          configured zones, the platform's format
 *   <root>/etc/zones/<name>.xml     brand and zonepath of each
 *   <root>/etc/mnttab               mounts in force
 *   <root>/system/simcn/zones       what the kernel knows: one fixed-size record a zone id, shared
 *   <root>/system/simcn/evchan/     one datagram socket a subscriber of com.sun:zones:status
 *   <root>/system/simcn/lock        flock of whoever changes any of the above
 *   <root>/system/simcn/evlock      flock of whoever publishes, so that all subscribers see one order
 *
 * Every function returns 0, or a negated errno: -ENOENT where the node was never booted. None is
 * called by the daemon. All but emul_publish return at once; any thread may call any of them.
 */
#ifndef EMUL_H
#define	EMUL_H

#include <stdint.h>

#define	EMUL_EXPORT	__attribute__((visibility("default")))

/*
 * Makes the directories above where they are missing, and empties the kernel's table and the mount table
 * (a node's boot). What an earlier run left mounted is not touched: emul_unmount_all goes first.
 */
EMUL_EXPORT int emul_node_boot(const char *root);

/*
 * Writes the XML of zones, and the index once: lines of `name:state:zonepath:uuid:brand`,
 * state configured, incomplete or installed. All or none: -EEXIST when any of the names is taken.
 */
EMUL_EXPORT int emul_zones_configure(const char *root, const char *lines);

/* Sets the state in the index: 0 configured, 1 incomplete, 2 installed. */
EMUL_EXPORT int emul_zone_index_state(const char *root, const char *name, uint32_t state);

/* Removes the index line and the XML. -EBUSY while the kernel knows the zone. */
EMUL_EXPORT int emul_zone_delete(const char *root, const char *name);

/*
 * Moves the kernel's status of a zone (zone_status_t: 1 initialized, 2 ready ... 8 dying, 10 free).
 * `initialized` gives the zone a fresh id (-EEXIST while it has one that is not dead yet), `free`
 * takes it back, 0 changes nothing. *zoneid is the id it has, or had. -ESRCH: the kernel does not know
 * the zone.
 */
EMUL_EXPORT int emul_zone_status(const char *root, const char *name, int32_t status,
    int32_t initpid, int32_t *zoneid);

/*
 * Publishes state changes to every subscriber, in order, and waits while one's queue is full: as on the
 * platform, a stuck subscriber holds up whoever publishes. One event a line, `name:zoneid:new:old:when`,
 * each ended by a newline; `when` is in ns since 1970. Events before a line that is none are sent.
 */
EMUL_EXPORT int emul_publish(const char *root, const char *events);

/*
 * What this process has asked libzonecfg for so far: lines of the index that its calls read, and XML
 * documents that they parsed. Both are what the platform's own library would have read and parsed.
 */
typedef struct emul_costs {
	uint64_t index_lines;
	uint64_t documents;
} emul_costs_t;

EMUL_EXPORT void emul_costs(emul_costs_t *costs);

/*
 * Unmounts what the table has at `dir`; who still uses it keeps it, but it is out of the tree. -EINVAL where nothing is
 * mounted: it leaves the table then.
 */
EMUL_EXPORT int emul_unmount(const char *root, const char *dir);

/* Unmounts whatever this or an earlier run left mounted below the root. *count: how many. */
EMUL_EXPORT int emul_unmount_all(const char *root, uint32_t *count);

#endif
