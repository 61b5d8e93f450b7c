/*
 * A file's identity, cheaply: whether what a path names is still the file that was read. And how much room
 * its file system has.
 */
#ifndef FILE_STAT_H
#define	FILE_STAT_H

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Device, inode, size, change and modification time: seven times 64 bits in two halves, low half first. */
#define	FILE_STAT_MEMBERS	14

/* Of the path itself, links not followed. 0 or -errno. */
int file_stat(const char *path, uint32_t *into);

/* The same of an open file, and of what a stat gave. */
int file_stat_fd(int fd, uint32_t *into);
void file_stat_of(const struct stat *st, uint32_t *into);

/* Whether it is that file, whatever its name. */
int file_stat_is(const uint32_t *stat, dev_t dev, ino_t ino);

/*
 * Bytes that a write may still take, root's reserve left out. 0 or -errno. Blocks as long as the file system
 * does.
 *
 * f_bavail counts units of f_frsize: ZFS has 512 bytes there and up to 1 MiB in f_bsize
 * (uts/common/fs/zfs/zfs_vfsops.c, zfs_statvfs), which is the one that libuv's statfs reports.
 */
int file_free_space(const char *path, uint64_t *bytes);

#endif
