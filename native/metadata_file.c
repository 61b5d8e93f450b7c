/*
 * See metadata_file.h.
 */
#define	_GNU_SOURCE
#if defined(__sun) && !defined(__EXTENSIONS__)
#define	__EXTENSIONS__
#endif

#include "metadata_file.h"
#include "json_string.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Shorter work is done without the lock, bytes. */
#define	LONG_SCAN_BYTES	(256 * 1024)

/* A file may be written in place again and again while it is read. */
#define	READS_MAX	5

/* One long scan at a time on the threads of the pool. Nothing that waits for a disk is done under it. */
static pthread_mutex_t long_work = PTHREAD_MUTEX_INITIALIZER;

/* The main thread, which works at once, never waits for a thread of the pool: all zones would wait with it. */
static int
work_begin(size_t length, int at_once)
{
	return (!at_once && length > LONG_SCAN_BYTES && pthread_mutex_lock(&long_work) == 0);
}

static void
work_end(int locked)
{
	if (locked)
		(void) pthread_mutex_unlock(&long_work);
}

metadata_file_result_t
metadata_file_result_of(metadata_scan_result_t result)
{
	switch (result) {
	case METADATA_SCAN_OK:
		return (METADATA_FILE_OK);
	case METADATA_SCAN_BLANK:
		return (METADATA_FILE_BLANK);
	case METADATA_SCAN_NOT_OBJECT:
		return (METADATA_FILE_NOT_OBJECT);
	case METADATA_SCAN_TOO_MANY:
		return (METADATA_FILE_TOO_MANY);
	case METADATA_SCAN_NOT_JSON:
		return (METADATA_FILE_NOT_JSON);
	case METADATA_SCAN_NO_MEMORY:
		break;
	}
	return (METADATA_FILE_FAILED);
}

/* A FIFO opens at once with O_NONBLOCK, and fstat then says what it is. */
static int
open_for_reading(const char *path)
{
	int fd;

	do {
		fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	} while (fd < 0 && errno == EINTR);
	return (fd);
}

/* Reads `length` bytes from `offset` on; as many as there were, or -1. */
static ssize_t
read_at(int fd, uint8_t *into, size_t length, size_t offset)
{
	size_t got = 0;

	while (got < length) {
		ssize_t more = pread(fd, into + got, length - got, (off_t)(offset + got));

		if (more < 0 && errno == EINTR)
			continue;
		if (more < 0)
			return (-1);
		if (more == 0)
			break;
		got += (size_t)more;
	}
	return ((ssize_t)got);
}

/* What path names and what fd is, if they are one and the same. */
static int
is_unchanged(int fd, const uint32_t *stat)
{
	uint32_t now[FILE_STAT_MEMBERS];

	return (file_stat_fd(fd, now) == 0 && memcmp(now, stat, sizeof (now)) == 0);
}

/* What a stat says of the file. */
static metadata_file_result_t
take_stat(metadata_read_t *read, const struct stat *st)
{
	file_stat_of(st, read->stat);
	read->mode = (uint32_t)st->st_mode & 07777;
	read->uid = (uint32_t)st->st_uid;
	read->gid = (uint32_t)st->st_gid;
	return (S_ISREG(st->st_mode) ? METADATA_FILE_OK : METADATA_FILE_NOT_REGULAR);
}

/* The whole of an open file; its bytes are the caller's to free. */
static metadata_file_result_t
read_open(int fd, metadata_read_t *read, uint8_t **bytes)
{
	struct stat st;
	ssize_t got;

	if (fstat(fd, &st) != 0)
		return (METADATA_FILE_FAILED);
	if (take_stat(read, &st) != METADATA_FILE_OK)
		return (METADATA_FILE_NOT_REGULAR);
	if ((uint64_t)st.st_size > read->bytes_max)
		return (METADATA_FILE_TOO_LARGE);
	read->length = (size_t)st.st_size;
	if ((*bytes = malloc(read->length + 1)) == NULL)
		return (METADATA_FILE_FAILED);
	if ((got = read_at(fd, *bytes, read->length, 0)) < 0)
		return (METADATA_FILE_FAILED);
	if ((size_t)got != read->length || !is_unchanged(fd, read->stat))
		return (METADATA_FILE_CHANGED);
	return (METADATA_FILE_OK);
}

/* Opens, reads, closes. errno is kept in `err`. */
static metadata_file_result_t
read_path(metadata_read_t *read, uint8_t **bytes)
{
	int fd = open_for_reading(read->path);
	metadata_file_result_t result;

	if (fd < 0) {
		read->err = errno;
		return (METADATA_FILE_FAILED);
	}
	errno = 0;
	result = read_open(fd, read, bytes);
	read->err = errno;
	(void) close(fd);
	return (result);
}

static metadata_file_result_t
read_once(metadata_read_t *read, uint8_t **bytes)
{
	metadata_file_result_t result;
	struct stat st;

	if (lstat(read->path, &st) != 0) {
		read->err = errno;
		return (METADATA_FILE_FAILED);
	}
	/* To open a device can already do something. */
	if ((result = take_stat(read, &st)) != METADATA_FILE_OK)
		return (result);
	return (read_path(read, bytes));
}

metadata_file_result_t
metadata_file_read(metadata_read_t *read)
{
	uint8_t *bytes = NULL;
	metadata_file_result_t result;
	int reads = 0, locked;

	while ((result = read_once(read, &bytes)) == METADATA_FILE_CHANGED && ++reads < READS_MAX) {
		free(bytes);
		bytes = NULL;
	}
	if (result == METADATA_FILE_OK) {
		locked = work_begin(read->length, read->at_once);
		result = metadata_file_result_of(metadata_scan(bytes, read->length, &read->scan));
		work_end(locked);
		read->err = ENOMEM;
	}
	if (result == METADATA_FILE_OK && read->length <= read->keep_max)
		read->bytes = bytes;
	else
		free(bytes);
	return (result);
}

static metadata_file_result_t
value_of(int fd, metadata_value_t *value)
{
	size_t length = value->end - value->start;
	ssize_t got;

	if (!is_unchanged(fd, value->stat))
		return (METADATA_FILE_CHANGED);
	if ((value->bytes = malloc(length + 1)) == NULL)
		return (METADATA_FILE_FAILED);
	if ((got = read_at(fd, value->bytes, length, value->start)) < 0)
		return (METADATA_FILE_FAILED);
	if ((size_t)got != length || !is_unchanged(fd, value->stat))
		return (METADATA_FILE_CHANGED);
	value->length = length;
	if (value->is_string) {
		int locked = work_begin(length, value->at_once);

		/* What it means is never longer than how it is written. */
		value->length = json_string_unescape(value->bytes, length, value->bytes);
		work_end(locked);
	}
	return (METADATA_FILE_OK);
}

metadata_file_result_t
metadata_file_value(metadata_value_t *value)
{
	int fd = open_for_reading(value->path);
	metadata_file_result_t result;

	if (fd < 0) {
		value->err = errno;
		return (METADATA_FILE_FAILED);
	}
	errno = 0;
	result = value_of(fd, value);
	value->err = errno;
	(void) close(fd);
	return (result);
}

/* The length of the new text, and that of each piece in it. */
static size_t
length_of(const metadata_text_t *text, size_t *lengths)
{
	size_t length = 0;

	for (size_t i = 0; i < text->piece_count; i++) {
		const metadata_piece_t *piece = &text->pieces[i];
		size_t source = piece->source == METADATA_PIECE_OLD ? text->old_length : text->literals_length;

		if (piece->source > METADATA_PIECE_STRING || piece->start > piece->end || piece->end > source)
			return (SIZE_MAX);
		lengths[i] = piece->source == METADATA_PIECE_STRING ?
		    json_string_length(text->literals + piece->start, piece->end - piece->start) :
		    piece->end - piece->start;
		length += lengths[i];
	}
	return (length);
}

/* Where the piece that holds the whole of old bytes [start, end) puts them; -1 where none does. */
static int64_t
kept_at(const metadata_text_t *text, const size_t *lengths, size_t start, size_t end, size_t *piece, size_t *offset)
{
	/* Members and pieces of the old text are both in its order: what is passed is not read again. */
	for (; *piece < text->piece_count; (*piece)++) {
		const metadata_piece_t *p = &text->pieces[*piece];

		/* A short one that is copied for its blanks holds no member. */
		if (p->source == METADATA_PIECE_OLD && p->start <= start && end <= p->end)
			return ((int64_t)(*offset + (start - p->start)));
		if (p->source == METADATA_PIECE_OLD && p->start > start && p->end > end)
			return (-1);
		*offset += lengths[*piece];
	}
	return (-1);
}

static int
same_member(const metadata_member_t *old, const metadata_member_t *new, int64_t shift)
{
	return (new->name_start == old->name_start + shift && new->name_end == old->name_end + shift &&
	    new->value_start == old->value_start + shift && new->value_end == old->value_end + shift);
}

/* Whether a map of the new text has what the pieces left whole of the old one, and so many others. */
static int
map_is_safe(const metadata_text_t *text, const size_t *lengths, int map, const metadata_member_t *new, size_t new_count)
{
	const metadata_member_t *old = text->members + (map == 0 ? 0 : text->counts[0]);
	size_t at = 0, others = 0, piece = 0, offset = 0;

	for (size_t i = 0; i < text->counts[map]; i++) {
		size_t from_piece = piece, from_offset = offset;
		int64_t kept = kept_at(text, lengths, old[i].name_start, old[i].value_end, &from_piece, &from_offset);

		if (kept < 0)
			continue;
		piece = from_piece;
		offset = from_offset;
		while (at < new_count && !same_member(&old[i], &new[at], kept - old[i].name_start)) {
			at++;
			others++;
		}
		if (at++ == new_count)
			return (0);
	}
	return (new_count == text->totals[map] && others + (new_count - at) == text->written[map]);
}

static metadata_file_result_t
build_and_scan(const metadata_text_t *text, const size_t *lengths, uint8_t *bytes, size_t length, metadata_scan_t *scan)
{
	size_t at = 0;

	for (size_t i = 0; i < text->piece_count; i++) {
		const metadata_piece_t *piece = &text->pieces[i];
		const uint8_t *source = piece->source == METADATA_PIECE_OLD ? text->old : text->literals;

		if (piece->source == METADATA_PIECE_STRING)
			json_string_escape(source + piece->start, piece->end - piece->start, bytes + at);
		else
			(void) memcpy(bytes + at, source + piece->start, lengths[i]);
		at += lengths[i];
	}
	if (metadata_scan(bytes, length, scan) != METADATA_SCAN_OK ||
	    !map_is_safe(text, lengths, 0, scan->members[0], scan->root.maps[0].count) ||
	    !map_is_safe(text, lengths, 1, scan->members[1], scan->root.maps[1].count))
		return (METADATA_FILE_UNSAFE);
	return (METADATA_FILE_OK);
}

metadata_file_result_t
metadata_text_build(const metadata_text_t *text, uint8_t **bytes, size_t *length, metadata_scan_t *scan)
{
	metadata_file_result_t result = METADATA_FILE_FAILED;
	size_t *lengths = calloc(text->piece_count + 1, sizeof (*lengths));

	(void) memset(scan, 0, sizeof (*scan));
	*bytes = NULL;
	errno = ENOMEM;
	if (lengths != NULL && (*length = length_of(text, lengths)) >= UINT32_MAX) {
		result = METADATA_FILE_UNSAFE;
	} else if (lengths != NULL && (*bytes = malloc(*length + 1)) != NULL) {
		int locked = work_begin(*length, 0);

		result = build_and_scan(text, lengths, *bytes, *length, scan);
		work_end(locked);
	}
	free(lengths);
	return (result);
}

/* Whether the file is still the one that the pieces were cut for, where its text is known. */
static metadata_file_result_t
check_old(metadata_splice_t *splice)
{
	uint32_t now[FILE_STAT_MEMBERS];
	int err = file_stat(splice->replace.path, now);

	if (err == -ENOENT)
		return (splice->expected == NULL ? METADATA_FILE_OK : METADATA_FILE_CHANGED);
	if (err != 0) {
		splice->fault.step = FILE_STEP_STAT;
		splice->fault.err = -err;
		return (METADATA_FILE_FAILED);
	}
	if (splice->expected == NULL || memcmp(now, splice->expected, sizeof (now)) != 0)
		return (METADATA_FILE_CHANGED);
	return (METADATA_FILE_OK);
}

/* The old text, which must be that of the file that the pieces were cut for. */
static metadata_file_result_t
read_old(metadata_splice_t *splice, uint8_t **bytes)
{
	metadata_read_t read;
	metadata_file_result_t result;

	(void) memset(&read, 0, sizeof (read));
	read.path = splice->replace.path;
	read.bytes_max = UINT32_MAX - 1;
	result = read_path(&read, bytes);
	if (result == METADATA_FILE_FAILED) {
		splice->fault.step = read.err == ENOENT ? FILE_STEP_STAT : FILE_STEP_OPEN;
		splice->fault.err = read.err;
		return (result);
	}
	if (result != METADATA_FILE_OK || splice->expected == NULL ||
	    memcmp(read.stat, splice->expected, sizeof (read.stat)) != 0)
		return (METADATA_FILE_CHANGED);
	splice->text.old = *bytes;
	splice->text.old_length = read.length;
	return (METADATA_FILE_OK);
}

metadata_file_result_t
metadata_file_splice(metadata_splice_t *splice)
{
	uint8_t *old = NULL;
	metadata_file_result_t result = splice->text.old == NULL ? read_old(splice, &old) : check_old(splice);

	if (result == METADATA_FILE_OK) {
		result = metadata_text_build(&splice->text, &splice->bytes, &splice->length, &splice->scan);
		if (result == METADATA_FILE_FAILED) {
			splice->fault.step = FILE_STEP_WRITE;
			splice->fault.err = ENOMEM;
		}
	}
	free(old);
	if (result == METADATA_FILE_OK) {
		splice->replace.bytes = (const char *)splice->bytes;
		splice->replace.length = splice->length;
		if (file_replace(&splice->replace, &splice->fault) != 0)
			result = METADATA_FILE_FAILED;
	}
	if (result != METADATA_FILE_OK || splice->length > splice->keep_max) {
		free(splice->bytes);
		splice->bytes = NULL;
	}
	return (result);
}
