/*
 * The mount table of a simulated node: /etc/mnttab in the platform's format, with this machine's paths.
 */
#ifndef MNTTAB_H
#define	MNTTAB_H

#include <sys/types.h>

/* Both are for the holder of the node's lock. `zone` is NULL outside of every zone. */
int mnttab_add(const char *root, const char *special, const char *dir, const char *options,
    const char *zone, dev_t dev);
/* Removes the last line of `dir`; none is no error. */
int mnttab_remove(const char *root, const char *dir);

#endif
