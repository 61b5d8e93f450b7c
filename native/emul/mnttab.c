/*
 * Lines of /etc/mnttab: special, mount point, type, options and time, with tabs between. As on illumos
 * (uts/common/fs/mntfs/mntvnops.c) a blank or backslash in a path stands there as it is.
 */
#define	_GNU_SOURCE
#include "mnttab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store.h"

static int
read_table(const char *root, char *path, char **text, size_t *len)
{
	int err = store_path(path, root, STORE_MNTTAB);

	if (err != 0)
		return (err);
	err = store_read(path, text, len);
	if (err != -ENOENT)
		return (err);
	*len = 0;
	*text = calloc(1, 1);
	return (*text == NULL ? -ENOMEM : 0);
}

int
mnttab_add(const char *root, const char *special, const char *dir, const char *options,
    const char *zone, dev_t dev)
{
	char path[STORE_PATH_BYTES];
	char *text, *out = NULL;
	size_t len, size;
	FILE *file;
	int err = read_table(root, path, &text, &len);

	if (err != 0)
		return (err);
	file = open_memstream(&out, &size);
	if (file == NULL) {
		free(text);
		return (-ENOMEM);
	}
	(void) fwrite(text, 1, len, file);
	(void) fprintf(file, "%s\t%s\tlofs\t%s", special, dir, options);
	if (zone != NULL)
		(void) fprintf(file, ",zone=%s", zone);
	(void) fprintf(file, ",dev=%llx\t%lld\n", (unsigned long long)dev, (long long)time(NULL));
	err = fclose(file) != 0 ? -ENOMEM : store_replace(path, out, size);
	free(out);
	free(text);
	return (err);
}

/* True when the line's second field says `dir`. */
static int
line_is_of(const char *line, size_t len, const char *dir)
{
	const char *start = memchr(line, '\t', len);
	size_t room = start == NULL ? 0 : len - (size_t)(++start - line);
	size_t wanted = strlen(dir);

	return (room > wanted && memcmp(start, dir, wanted) == 0 && start[wanted] == '\t');
}

int
mnttab_remove(const char *root, const char *dir)
{
	char path[STORE_PATH_BYTES];
	char *text, *line, *end, *found = NULL, *found_end = NULL;
	size_t len;
	int err = read_table(root, path, &text, &len);

	if (err != 0)
		return (err);
	for (line = text; line < text + len; line = end) {
		end = memchr(line, '\n', (size_t)(text + len - line));
		end = end == NULL ? text + len : end + 1;
		if (line_is_of(line, (size_t)(end - line), dir)) {
			found = line;
			found_end = end;
		}
	}
	if (found != NULL) {
		memmove(found, found_end, (size_t)(text + len - found_end));
		err = store_replace(path, text, len - (size_t)(found_end - found));
	}
	free(text);
	return (err);
}
