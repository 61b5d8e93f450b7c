/*
 * file_free_space on a file system that counts as ZFS of illumos does: this program has a statvfs of its own.
 */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "file_stat.h"

int
statvfs(const char *path, struct statvfs *st)
{
	(void) path;
	(void) memset(st, 0, sizeof (*st));
	st->f_bsize = 1048576;
	st->f_frsize = 512;
	st->f_bavail = 100;
	return (0);
}

int
main(void)
{
	uint64_t bytes;

	if (file_free_space("/zones/z/config", &bytes) != 0)
		return (1);
	(void) printf("%llu\n", (unsigned long long)bytes);
	return (0);
}
