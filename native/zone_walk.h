/*
 * Walks below a zone's root from directory to directory, by descriptors, and follows no link. For zone_root.c, a
 * process that the kernel may hold for ever: what lies there is the zone's to arrange.
 */
#ifndef ZONE_WALK_H
#define	ZONE_WALK_H

#include <sys/stat.h>

/* Longest path with its NUL. */
#define	ZONE_PATH_BYTES	4096
/* Deeper than any path that a socket's address holds inside of a zone. */
#define	MAX_DEPTH	64
#define	IDENTITY_BYTES	72

/* What a walk found: the directories that it went through, the zone's root first, and what it led to. */
typedef struct walk {
	int dirs[MAX_DEPTH + 1];
	int depth;
	char names[ZONE_PATH_BYTES];
	const char *components[MAX_DEPTH];
	int count;
	struct stat found;
	/* From the port up to the root's children: the same twice is the same path. */
	char parents[MAX_DEPTH * IDENTITY_BYTES];
	char identity[IDENTITY_BYTES];
} walk_t;

/* The call that failed, and at which component; 0 is the zone's root. */
typedef struct fault {
	int err;
	const char *call;
	int depth;
} fault_t;

/* What the path must lead to. */
typedef enum walk_goal {
	WALK_SOCKET,
	WALK_DIRECTORY,
	/* The same; what is missing on the way is made. */
	WALK_MAKE_DIRECTORY
} walk_goal_t;

/* Opens the directories that lead to the goal, which a directory is one of. 0 or -1; walk_end closes them either way. */
int walk_to(walk_t *walk, const char *root, const char *path, walk_goal_t goal, fault_t *fault);

/* Idempotent. */
void walk_end(walk_t *walk);

/* Fills in the fault. Always -1. */
int walk_failed(fault_t *fault, int err, const char *call, int depth);

#endif
