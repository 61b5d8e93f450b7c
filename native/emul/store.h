/*
 * The files that a simulated node is made of: where they are, who may change them, how they change.
 */
#ifndef STORE_H
#define	STORE_H

#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#define	STORE_PATH_BYTES	4096

#define	STORE_INDEX	"/etc/zones/index"
#define	STORE_MNTTAB	"/etc/mnttab"
#define	STORE_TABLE	"/system/simcn/zones"
#define	STORE_CHANNEL	"/system/simcn/evchan"
#define	STORE_LOCK	"/system/simcn/lock"
#define	STORE_EVLOCK	"/system/simcn/evlock"

/* `path` has STORE_PATH_BYTES. 0 or -ENAMETOOLONG. */
int store_path(char *path, const char *root, const char *tail);

/* A file descriptor, closed on exec, of the file `tail`, or -errno. `flags` as open(2) takes them; mode 644. */
int store_open(const char *root, const char *tail, int flags);

/* Makes a directory and those above it, mode 755, from below the root on. */
int store_mkdirs(const char *root, const char *tail);

/* Waits for the lock file `tail` (STORE_LOCK, STORE_EVLOCK). A file descriptor, or -errno. */
int store_lock(const char *root, const char *tail);
void store_unlock(int fd);

/* The whole file, NUL-ended; the caller frees. */
int store_read(const char *path, char **bytes, size_t *len);

/*
 * Replaces a file as a whole: temporary file and rename. Its mtime is always later than that of
 * the file before, so that a store_id_t tells any two versions apart.
 */
int store_replace(const char *path, const char *bytes, size_t len);

/* One version of a file. */
typedef struct store_id {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
} store_id_t;

int store_identify(const char *path, store_id_t *id);
int store_same(const store_id_t *a, const store_id_t *b);

#endif
