/*
 * A file's identity, cheaply: whether what a path names is still the file that was read.
 */
#ifndef FILE_LOOK_H
#define	FILE_LOOK_H

#include <stdint.h>
#include <sys/types.h>

/* Device, inode, size, change and modification time: seven times 64 bits in two halves, low half first. */
#define	FILE_LOOK_MEMBERS	14

/* Of the path itself, links not followed. 0 or -errno. */
int file_look(const char *path, uint32_t *into);

/* Whether it is that file, whatever its name. */
int file_look_is(const uint32_t *look, dev_t dev, ino_t ino);

#endif
