/*
 * A file replaced in one step, and brought onto stable storage: a dozen blocking calls one after the
 * other, for one trip to a thread of the pool instead of a dozen.
 *
 * Any thread may call these; they block as long as the disk does.
 */
#ifndef FILE_REPLACE_H
#define	FILE_REPLACE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "file_stat.h"

/* The call that failed; src/platform/files.ts has their names in this order. */
typedef enum file_step {
	FILE_STEP_NONE,
	FILE_STEP_OPEN,
	FILE_STEP_STAT,
	FILE_STEP_WRITE,
	FILE_STEP_CHOWN,
	FILE_STEP_CHMOD,
	FILE_STEP_FSYNC,
	FILE_STEP_CLOSE,
	FILE_STEP_RENAME,
	FILE_STEP_UNLINK
} file_step_t;

typedef struct file_fault {
	file_step_t step;
	/* Positive. */
	int err;
	/* Of the directory, not of a file in it. */
	int directory;
} file_fault_t;

typedef struct file_replace {
	const char *path;
	/* In the same directory; whoever calls has a lock that makes it his. */
	const char *temp;
	const char *directory;
	const char *bytes;
	size_t length;
	/* The owner is left as it comes where the file has none yet. */
	int owned;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	/* Out: the new file; all 0 where the path is already another's. */
	uint32_t stat[FILE_STAT_MEMBERS];
} file_replace_t;

/*
 * Puts `bytes` in the place of the file: new temp file, its bytes, owner and mode, fsync, rename, fsync
 * of the directory. 0, or -1 with `fault` filled: until the renaming the old file is untouched then, and
 * the temp file is gone where it can go.
 */
int file_replace(file_replace_t *replace, file_fault_t *fault);

/* Brings a file that is there, and its name, onto stable storage. Links are not followed. */
int file_sync(const char *path, const char *directory, file_fault_t *fault);

#endif
