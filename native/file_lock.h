/*
 * The platform's file lock: an fcntl write lock over a whole file, as its VM tool takes it.
 *
 * POSIX drops all locks that a process has on a file as soon as it closes any descriptor of it, and lets a process
 * lock again what it holds: one process must not have a file open for its lock twice.
 */
#ifndef FILE_LOCK_H
#define	FILE_LOCK_H

/*
 * Opens the file that the path names, created where it is missing and emptied as the platform does it, and locks it.
 * 0 with a descriptor, which holds the lock until it is closed; -EAGAIN where another process has it; or -errno.
 * Never waits for the lock.
 */
int file_lock(const char *path, int *fd);

#endif
