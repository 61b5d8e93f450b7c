/*
 * A simulated node as this process sees it: the cached index and the mapped table of one root.
 */
#ifndef NODE_H
#define	NODE_H

#include <pthread.h>

#include "store.h"
#include "table.h"
#include "zindex.h"

typedef struct node {
	struct node *next;
	char root[STORE_PATH_BYTES];
	/* Held between node_enter and node_leave; taken before the node's flock, never after. */
	pthread_mutex_t mutex;
	/* The flock, between node_lock and node_unlock. */
	int lock;
	zindex_t index;
	table_t table;
} node_t;

/* The root that zonecfg_set_root() named last; `/` before. STORE_PATH_BYTES. */
void node_current_root(char *root);

/* Alone with the node until node_leave. NULL only without memory. Does not mean that it booted. */
node_t *node_enter(const char *root);
node_t *node_enter_current(void);
void node_leave(node_t *node);

/* The same, and alone on the whole machine until node_unlock. 0 or -errno. `root` NULL: the current one. */
int node_lock(node_t **node, const char *root);
/* Returns `err`. */
int node_unlock(node_t *node, int err);

/*
 * The name of the zone that a path of this machine lies in: at its root or below. 0 or -ENOENT.
 * `name` has ZONENAME_MAX.
 */
int node_zone_of_path(node_t *node, const char *path, char *name);

#endif
