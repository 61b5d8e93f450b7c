/*
 * See file_stat.h.
 */
#include "feature_macros.h"

#include "file_stat.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static uint32_t *
put(uint32_t *into, uint64_t value)
{
	*into++ = (uint32_t)value;
	*into++ = (uint32_t)(value >> 32);
	return (into);
}

void
file_stat_of(const struct stat *st, uint32_t *into)
{
	into = put(into, (uint64_t)st->st_dev);
	into = put(into, (uint64_t)st->st_ino);
	into = put(into, (uint64_t)st->st_size);
	into = put(into, (uint64_t)st->st_ctim.tv_sec);
	into = put(into, (uint64_t)st->st_ctim.tv_nsec);
	into = put(into, (uint64_t)st->st_mtim.tv_sec);
	(void) put(into, (uint64_t)st->st_mtim.tv_nsec);
}

int
file_stat(const char *path, uint32_t *into)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return (-errno);
	file_stat_of(&st, into);
	return (0);
}

int
file_stat_fd(int fd, uint32_t *into)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return (-errno);
	file_stat_of(&st, into);
	return (0);
}

int
file_stat_is(const uint32_t *stat, dev_t dev, ino_t ino)
{
	uint32_t wanted[4];

	(void) put(put(wanted, (uint64_t)dev), (uint64_t)ino);
	return (memcmp(stat, wanted, sizeof (wanted)) == 0);
}

int
file_free_space(const char *path, uint64_t *bytes)
{
	struct statvfs st;

	if (statvfs(path, &st) != 0)
		return (-errno);
	*bytes = (uint64_t)st.f_bavail * (st.f_frsize != 0 ? st.f_frsize : st.f_bsize);
	return (0);
}
