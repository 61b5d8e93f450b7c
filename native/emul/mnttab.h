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

/*
 * Undoes the octal escapes (\040) of a mount table's field in place: the platform's mnttab and Linux'
 * mountinfo write blanks the same way.
 */
void mnttab_unescape(char *field);

#endif
