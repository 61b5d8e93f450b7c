/*
 * See metadata_names.h.
 */
#include "metadata_names.h"

#include <stdlib.h>
#include <string.h>

#include "json_string.h"

#define	INTERNAL	1
/* Colon and comma of a member. */
#define	MEMBER_BYTES	2
/* The longest name that is an index of an array, and so comes before others in an object of JavaScript. */
#define	INDEX_DIGITS	10
#define	INDEX_END	UINT32_MAX
#define	NO_INDEX	UINT64_MAX
#define	NOT_SEEN	UINT32_MAX

static const char PASSWORD_END[] = "_pw";
static const char SDC[] = "sdc:";

/* The members of one map, and where what is found of them goes. */
typedef struct map_names {
	const uint8_t *names;
	const metadata_member_t *members;
	uint32_t count;
	/* The number of the first one. */
	uint32_t first;
} map_names_t;

static size_t
size_of(const metadata_member_t *member)
{
	return (member->plain_end - member->plain_start);
}

static int
compare(const map_names_t *map, uint32_t a, uint32_t b)
{
	const metadata_member_t *one = &map->members[a - map->first], *other = &map->members[b - map->first];
	size_t size = size_of(one) < size_of(other) ? size_of(one) : size_of(other);
	int order = memcmp(map->names + one->plain_start, map->names + other->plain_start, size);

	return (order != 0 ? order : size_of(one) < size_of(other) ? -1 : size_of(one) > size_of(other));
}

/* The index of an array that a name is; NO_INDEX. */
static uint64_t
index_of(const map_names_t *map, uint32_t number)
{
	const metadata_member_t *member = &map->members[number - map->first];
	const uint8_t *name = map->names + member->plain_start;
	size_t size = size_of(member);
	uint64_t index = 0;

	if (size == 0 || size > INDEX_DIGITS || (name[0] == '0' && size > 1))
		return (NO_INDEX);
	for (size_t i = 0; i < size; i++) {
		if (name[i] < '0' || name[i] > '9')
			return (NO_INDEX);
		index = index * 10 + (name[i] - '0');
	}
	return (index < INDEX_END ? index : NO_INDEX);
}

static int
compare_index(const map_names_t *map, uint32_t a, uint32_t b)
{
	uint64_t one = index_of(map, a), other = index_of(map, b);

	return (one < other ? -1 : one > other);
}

/*
 * A merge sort, since the guest chooses the names: it takes n log n comparisons whatever they are, and leaves equal ones
 * in their order. `spare` has room for as many.
 */
static void
sort(const map_names_t *map, uint32_t *numbers, uint32_t *spare, size_t count,
    int (*order)(const map_names_t *, uint32_t, uint32_t))
{
	for (size_t run = 1; run < count; run *= 2) {
		for (size_t start = 0; start < count; start += 2 * run) {
			size_t middle = start + run < count ? start + run : count;
			size_t end = middle + run < count ? middle + run : count;
			size_t a = start, b = middle;

			for (size_t at = start; at < end; at++) {
				if (a < middle && (b == end || order(map, numbers[a], numbers[b]) <= 0))
					spare[at] = numbers[a++];
				else
					spare[at] = numbers[b++];
			}
		}
		(void) memcpy(numbers, spare, count * sizeof (*numbers));
	}
}

static uint32_t
flags_of(const uint8_t *name, size_t size)
{
	uint32_t flags = memchr(name, ':', size) != NULL ? METADATA_NAME_COLON : 0;
	const size_t end = sizeof (PASSWORD_END) - 1, sdc = sizeof (SDC) - 1;

	if (size >= end && memcmp(name + size - end, PASSWORD_END, end) == 0)
		flags |= METADATA_NAME_PASSWORD;
	if (size == 0 || (size >= sdc && memcmp(name, SDC, sdc) == 0))
		return (flags);
	for (size_t i = 0; i < size; i++) {
		if (name[i] < 0x20 || name[i] == 0x7f)
			return (flags);
	}
	return (flags | METADATA_NAME_LISTABLE);
}

/* Writes a name as it is meant; returns its length. `spare` has room for the longest one. */
static size_t
put_name(const uint8_t *bytes, const metadata_member_t *member, uint8_t *into, uint8_t *spare)
{
	const uint8_t *name = bytes + member->name_start;
	size_t size = member->name_end - member->name_start;

	if ((member->flags & METADATA_NAME_NOT_UTF8) != 0)
		return (json_utf8_repair(spare, json_string_unescape(name, size, spare), into));
	if ((member->flags & METADATA_NAME_ESCAPED) != 0)
		return (json_string_unescape(name, size, into));
	(void) memcpy(into, name + 1, size - 2);
	return (size - 2);
}

/* The names of all members, in the order of the text. */
static int
put_names(const uint8_t *bytes, metadata_scan_t *scan)
{
	size_t most = 0, longest = 0, at = 0;
	uint8_t *spare, *fitting;

	for (int map = 0; map < 2; map++) {
		for (uint32_t i = 0; i < scan->root.maps[map].count; i++) {
			const metadata_member_t *member = &scan->members[map][i];
			size_t size = member->name_end - member->name_start;
			int is_utf8 = (member->flags & METADATA_NAME_NOT_UTF8) == 0;

			/* An LF takes the place of a quote. */
			most += is_utf8 ? size : 3 * size;
			longest = is_utf8 || size < longest ? longest : size;
		}
	}
	scan->names = malloc(most + 1);
	spare = malloc(longest + 1);
	if (scan->names == NULL || spare == NULL) {
		free(spare);
		return (-1);
	}
	for (int map = 0; map < 2; map++) {
		for (uint32_t i = 0; i < scan->root.maps[map].count; i++) {
			metadata_member_t *member = &scan->members[map][i];

			member->plain_start = (uint32_t)at;
			at += put_name(bytes, member, scan->names + at, spare);
			member->plain_end = (uint32_t)at;
			member->flags |= flags_of(scan->names + member->plain_start, size_of(member));
			scan->names[at++] = '\n';
		}
	}
	free(spare);
	scan->names_length = at;
	if ((fitting = realloc(scan->names, at + 1)) != NULL)
		scan->names = fitting;
	return (0);
}

static void
count_use(metadata_scan_t *scan, int map, uint32_t number, uint32_t first)
{
	const metadata_member_t *member = &scan->members[map][number - first];

	if (map == INTERNAL && (member->flags & METADATA_NAME_PASSWORD) == 0)
		return;
	scan->root.guest_keys++;
	scan->root.guest_bytes += member->name_end - member->name_start + member->value_end - member->value_start +
	    MEMBER_BYTES;
}

/* Of a sorted map the visible members, in JSON.parse's order. `spare` and `seen` have room for as many as the map has. */
static uint32_t
put_visible(const map_names_t *map, const uint32_t *sorted, uint32_t *visible, uint32_t *seen, uint32_t *spare)
{
	uint32_t indices = 0, count = 0;

	for (uint32_t i = 0; i < map->count; i++)
		seen[i] = NOT_SEEN;
	/* A name stands where its first member does, and means its last one. */
	for (uint32_t i = 0, last; i < map->count; i = last + 1) {
		for (last = i; last + 1 < map->count && compare(map, sorted[i], sorted[last + 1]) == 0; last++)
			;
		seen[sorted[i] - map->first] = sorted[last];
	}
	for (uint32_t i = 0; i < map->count; i++) {
		if (seen[i] != NOT_SEEN && index_of(map, seen[i]) != NO_INDEX)
			visible[indices++] = seen[i];
	}
	sort(map, visible, spare, indices, compare_index);
	count = indices;
	for (uint32_t i = 0; i < map->count; i++) {
		if (seen[i] != NOT_SEEN && index_of(map, seen[i]) == NO_INDEX)
			visible[count++] = seen[i];
	}
	return (count);
}

int
metadata_names_make(const uint8_t *bytes, metadata_scan_t *scan)
{
	const uint32_t total = scan->root.maps[0].count + scan->root.maps[1].count;
	uint32_t *sorted, *visible, *spare, first = 0;

	if (put_names(bytes, scan) != 0)
		return (-1);
	scan->order = malloc((2 * (size_t)total + 1) * sizeof (*scan->order));
	spare = malloc((2 * (size_t)total + 1) * sizeof (*spare));
	if (scan->order == NULL || spare == NULL) {
		free(spare);
		return (-1);
	}
	sorted = scan->order;
	visible = scan->order + total;
	for (int which = 0; which < 2; which++) {
		metadata_map_t *found = &scan->root.maps[which];
		const map_names_t map = { scan->names, scan->members[which], found->count, first };

		for (uint32_t i = 0; i < map.count; i++)
			sorted[i] = first + i;
		sort(&map, sorted, spare, map.count, compare);
		found->visible = put_visible(&map, sorted, visible, spare + total, spare);
		for (uint32_t i = 0; i < found->visible; i++)
			count_use(scan, which, visible[i], first);
		sorted += map.count;
		visible += found->visible;
		first += map.count;
	}
	free(spare);
	scan->order_length = (size_t)(visible - scan->order);
	return (0);
}
