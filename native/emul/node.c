/*
 * What happens to zones on a simulated node: they are configured, the kernel gets to know them, and
 * they go. Each change is made under the node's lock, on a fresh index.
 */
#define	_GNU_SOURCE
#include "node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emul.h"
#include "zone_xml.h"

static pthread_mutex_t nodes_mutex = PTHREAD_MUTEX_INITIALIZER;
/* One for each root that this process ever named; they live as long as it does. */
static node_t *nodes;
static char current_root[STORE_PATH_BYTES] = "/";

static void
trim(char *to, const char *root)
{
	size_t len = strlen(root);

	if (len >= STORE_PATH_BYTES)
		len = STORE_PATH_BYTES - 1;
	memcpy(to, root, len);
	while (len > 1 && to[len - 1] == '/')
		len--;
	to[len] = '\0';
}

void
zonecfg_set_root(const char *root)
{
	(void) pthread_mutex_lock(&nodes_mutex);
	trim(current_root, root == NULL || *root == '\0' ? "/" : root);
	(void) pthread_mutex_unlock(&nodes_mutex);
}

void
node_current_root(char *root)
{
	(void) pthread_mutex_lock(&nodes_mutex);
	(void) strcpy(root, current_root);
	(void) pthread_mutex_unlock(&nodes_mutex);
}

node_t *
node_enter(const char *root)
{
	char trimmed[STORE_PATH_BYTES];
	node_t *node;

	trim(trimmed, root);
	(void) pthread_mutex_lock(&nodes_mutex);
	for (node = nodes; node != NULL; node = node->next) {
		if (strcmp(node->root, trimmed) == 0)
			break;
	}
	if (node == NULL && (node = calloc(1, sizeof (*node))) != NULL) {
		(void) strcpy(node->root, trimmed);
		(void) pthread_mutex_init(&node->mutex, NULL);
		node->next = nodes;
		nodes = node;
	}
	(void) pthread_mutex_unlock(&nodes_mutex);
	if (node != NULL)
		(void) pthread_mutex_lock(&node->mutex);
	return (node);
}

node_t *
node_enter_current(void)
{
	char root[STORE_PATH_BYTES];

	node_current_root(root);
	return (node_enter(root));
}

void
node_leave(node_t *node)
{
	(void) pthread_mutex_unlock(&node->mutex);
}

int
node_lock(node_t **node, const char *root)
{
	int lock;

	*node = root == NULL ? node_enter_current() : node_enter(root);
	if (*node == NULL)
		return (-ENOMEM);
	(*node)->lock = lock = store_lock((*node)->root, STORE_LOCK);
	if (lock >= 0)
		return (0);
	node_leave(*node);
	return (lock);
}

int
node_unlock(node_t *node, int err)
{
	store_unlock(node->lock);
	node_leave(node);
	return (err);
}

int
node_zone_of_path(node_t *node, const char *path, char *name)
{
	char rootpath[STORE_PATH_BYTES + MAXPATHLEN + 8];
	uint32_t i;
	size_t len = strcmp(node->root, "/") == 0 ? 0 : strlen(node->root);

	/* Zones lie below the root. A path that does not is told without the index. */
	if (strncmp(path, node->root, len) != 0 || path[len] != '/')
		return (-ENOENT);
	if (zindex_refresh(&node->index, node->root) != 0)
		return (-ENOENT);
	for (i = 0; i < node->index.count; i++) {
		const zindex_zone_t *zone = &node->index.zones[i];

		if (strcmp(zone->name, GLOBAL_ZONENAME) == 0 || strlen(zone->name) >= ZONENAME_MAX)
			continue;
		len = (size_t)snprintf(rootpath, sizeof (rootpath), "%s%s/root",
		    strcmp(node->root, "/") == 0 ? "" : node->root, zone->zonepath);
		if (len < sizeof (rootpath) && strncmp(path, rootpath, len) == 0 &&
		    (path[len] == '/' || path[len] == '\0')) {
			(void) strcpy(name, zone->name);
			return (0);
		}
	}
	return (-ENOENT);
}

/* Locks the node, with a fresh index. */
static int
change_begin(const char *root, node_t **node)
{
	int err = node_lock(node, root);

	if (err != 0)
		return (err);
	if ((err = table_open(&(*node)->table, (*node)->root)) != 0 ||
	    (err = zindex_refresh(&(*node)->index, (*node)->root)) != 0)
		return (node_unlock(*node, err));
	table_repair(&(*node)->table);
	return (0);
}

int
emul_node_boot(const char *root)
{
	char path[STORE_PATH_BYTES];
	node_t *node;
	int err;

	if ((err = store_mkdirs(root, "/etc/zones")) != 0 ||
	    (err = store_mkdirs(root, STORE_CHANNEL)) != 0 ||
	    (err = node_lock(&node, root)) != 0)
		return (err);
	if ((err = table_create(node->root)) == 0 &&
	    (err = table_open(&node->table, node->root)) == 0) {
		table_repair(&node->table);
		table_clear(&node->table);
		/* An empty addition writes the index where it is missing. */
		if (zindex_refresh(&node->index, node->root) == -ENOENT)
			err = zindex_add(&node->index, node->root, "");
		if (err == 0 && (err = store_path(path, node->root, STORE_MNTTAB)) == 0)
			err = store_replace(path, "", 0);
	}
	return (node_unlock(node, err));
}

int
emul_zones_configure(const char *root, const char *lines)
{
	node_t *node;
	int err = change_begin(root, &node);

	if (err != 0)
		return (err);
	return (node_unlock(node, zindex_add(&node->index, node->root, lines)));
}

int
emul_zone_index_state(const char *root, const char *name, uint32_t state)
{
	node_t *node;
	int err = change_begin(root, &node);

	if (err != 0)
		return (err);
	return (node_unlock(node, zindex_set_state(&node->index, node->root, name, state)));
}

int
emul_zone_delete(const char *root, const char *name)
{
	zone_record_t record;
	node_t *node;
	int err = change_begin(root, &node);

	if (err != 0)
		return (err);
	err = table_zone(&node->table, node->root, name, 0, &record);
	if (err == 0)
		err = -EBUSY;
	else if (err == -ESRCH)
		err = zindex_remove(&node->index, node->root, name);
	return (node_unlock(node, err));
}

/* The kernel gets to know a configured zone. */
static int
initialize(node_t *node, const char *name, int32_t initpid, int32_t *zoneid)
{
	zone_record_t record;
	zindex_zone_t *zone = zindex_find(&node->index, name);
	int err;

	if (zone == NULL || strcmp(name, GLOBAL_ZONENAME) == 0)
		return (-ENOENT);
	err = table_zone(&node->table, node->root, name, 0, &record);
	if (err == 0) {
		if (record.status < ZONE_IS_DEAD)
			return (-EEXIST);
		table_remove(&node->table, record.id);
	} else if (err != -ESRCH) {
		return (err);
	}
	memset(&record, 0, sizeof (record));
	if (strlen(name) >= sizeof (record.name) ||
	    (size_t)snprintf(record.rootpath, sizeof (record.rootpath), "%s/root",
	    zone->zonepath) >= sizeof (record.rootpath))
		return (-ENAMETOOLONG);
	(void) strcpy(record.name, name);
	if ((err = zone_xml_brand(node->root, name, record.brand)) != 0)
		return (err);
	record.status = ZONE_IS_INITIALIZED;
	record.initpid = initpid;
	err = table_add(&node->table, node->root, &record);
	*zoneid = record.id;
	return (err);
}

int
emul_zone_status(const char *root, const char *name, int32_t status, int32_t initpid,
    int32_t *zoneid)
{
	zone_record_t record;
	node_t *node;
	int err;

	*zoneid = -1;
	if (status < ZONE_IS_UNINITIALIZED || status > ZONE_IS_FREE)
		return (-EINVAL);
	if ((err = change_begin(root, &node)) != 0)
		return (err);
	if (status == ZONE_IS_INITIALIZED)
		return (node_unlock(node, initialize(node, name, initpid, zoneid)));
	err = table_zone(&node->table, node->root, name, 0, &record);
	if (err == 0) {
		*zoneid = record.id;
		if (status == ZONE_IS_UNINITIALIZED)
			err = 0;
		else if (status == ZONE_IS_FREE)
			table_remove(&node->table, record.id);
		else
			table_update(&node->table, record.id, status, initpid);
	}
	return (node_unlock(node, err));
}
