/*
 * zexec: run a program in a simulated zone's own view of the world (zlogin's place in simcn).
 *
 *   zexec [--ns PATH] [--user] [--ro SRC DST]... [--rw SRC DST]... --root DIR -- CMD [ARG]...
 *
 * In this order: it enters the node's mount namespace (--ns, so that the zone's lofs mounts are there
 * however the caller was started), makes a mount namespace of its own, binds SRC of the host at DST of
 * the zone, chroots to DIR and becomes CMD. It forks nothing: its process id is the command's, and
 * /proc/<pid>/root of the command names the zone, which is how the node's getpeerucred tells zones
 * apart. That is why it must be chroot, and not pivot_root.
 *
 * --user makes a user namespace first, for callers that are not root: the caller is uid 0 in it.
 *
 * The host name is the zone's own as well (a UTS namespace): what its /etc/nodename says.
 *
 * DIR belongs to the zone, so no component of DST may be a symbolic link: a guest could otherwise
 * choose what is hidden behind a bind. Linux only: a real zone has zlogin.
 *
 * Exit status: CMD's own; 125 when the view could not be made, 126 and 127 as of a shell when CMD
 * could not be run or found. 124 when the namespace was refused: the caller may do without.
 */
#define	_GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * glibc's <sys/mount.h> and <linux/mount.h> cannot both be included on older systems, and the latter
 * has mount_setattr's structure: the flags of mount(2) itself are in <linux/mount.h> as well.
 */
extern int mount(const char *, const char *, const char *, unsigned long, const void *);

#define	EXIT_REFUSED	124
#define	EXIT_VIEW	125
#define	EXIT_CANNOT_RUN	126
#define	EXIT_NOT_FOUND	127

typedef struct view_bind {
	const char *vb_src;
	const char *vb_dst;
	int vb_readonly;
} view_bind_t;

typedef struct view {
	const char *v_ns;
	const char *v_root;
	int v_user;
	/* It has a UTS namespace of its own: only then may a host name be set. */
	int v_uts;
	view_bind_t *v_binds;
	size_t v_nbinds;
	char **v_cmd;
} view_t;

static void die(int status, const char *fmt, ...) __attribute__((noreturn));

static void
die(int status, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	(void) fprintf(stderr, "zexec: ");
	va_start(ap, fmt);
	(void) vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (err != 0)
		(void) fprintf(stderr, ": %s", strerror(err));
	(void) fprintf(stderr, "\n");
	exit(status);
}

static void
parse_args(int argc, char **argv, view_t *v)
{
	int i = 1;

	/* No more binds than arguments: one allocation will do. */
	v->v_binds = calloc((size_t)argc, sizeof (view_bind_t));
	if (v->v_binds == NULL)
		die(EXIT_VIEW, "out of memory");

	errno = 0;
	for (; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		} else if (strcmp(argv[i], "--user") == 0) {
			v->v_user = 1;
		} else if (strcmp(argv[i], "--ns") == 0 && i + 1 < argc) {
			v->v_ns = argv[++i];
		} else if (strcmp(argv[i], "--root") == 0 && i + 1 < argc) {
			v->v_root = argv[++i];
		} else if ((strcmp(argv[i], "--ro") == 0 ||
		    strcmp(argv[i], "--rw") == 0) && i + 2 < argc) {
			view_bind_t *b = &v->v_binds[v->v_nbinds++];

			b->vb_readonly = strcmp(argv[i], "--ro") == 0;
			b->vb_src = argv[++i];
			b->vb_dst = argv[++i];
			if (b->vb_dst[0] != '/' || b->vb_dst[1] == '\0')
				die(EXIT_VIEW, "%s: not below the zone's root", b->vb_dst);
		} else {
			die(EXIT_VIEW, "bad argument: %s", argv[i]);
		}
	}

	v->v_cmd = &argv[i];
	if (v->v_root == NULL || i >= argc)
		die(EXIT_VIEW, "usage: zexec [--ns PATH] [--user] [--ro SRC DST] "
		    "[--rw SRC DST] --root DIR -- CMD [ARG]...");
}

static void
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(EXIT_VIEW, "%s", path);
	(void) close(fd);
}

/* The caller, whoever he is, becomes root of a user namespace of his own. */
static void
enter_user_namespace(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[64];

	if (unshare(CLONE_NEWUSER) != 0)
		die(EXIT_REFUSED, "user namespace refused");
	/* Without this the kernel refuses an unprivileged gid_map. */
	write_file("/proc/self/setgroups", "deny");
	(void) snprintf(map, sizeof (map), "0 %u 1", (unsigned)uid);
	write_file("/proc/self/uid_map", map);
	(void) snprintf(map, sizeof (map), "0 %u 1", (unsigned)gid);
	write_file("/proc/self/gid_map", map);
}

static void
enter_namespaces(view_t *v)
{
	if (v->v_ns != NULL) {
		int fd = open(v->v_ns, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || setns(fd, CLONE_NEWNS) != 0)
			die(EXIT_REFUSED, "%s", v->v_ns);
		(void) close(fd);
	}
	if (v->v_user)
		enter_user_namespace();
	if (unshare(CLONE_NEWNS) != 0)
		die(EXIT_REFUSED, "mount namespace refused");
	v->v_uts = unshare(CLONE_NEWUTS) == 0;
	/* Slave: what the node mounts later shows up here, and nothing of this leaks out. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
		die(EXIT_VIEW, "/");
}

/* Opens dst below the zone's root, whatever is mounted on it, and follows no symbolic link. */
static int
open_below(int rootfd, const char *dst)
{
	struct open_how how;

	(void) memset(&how, 0, sizeof (how));
	how.flags = O_PATH | O_CLOEXEC;
	how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
	return ((int)syscall(SYS_openat2, rootfd, dst + 1, &how, sizeof (how)));
}

static void
bind_into(int rootfd, const view_bind_t *b)
{
	struct mount_attr attr;
	char target[32];
	int fd;

	if ((fd = open_below(rootfd, b->vb_dst)) < 0)
		die(EXIT_VIEW, "%s in the zone", b->vb_dst);
	(void) snprintf(target, sizeof (target), "/proc/self/fd/%d", fd);
	/* Recursive: a user namespace may not look beneath the mounts that it was given. */
	if (mount(b->vb_src, target, NULL, MS_BIND | MS_REC, NULL) != 0)
		die(EXIT_VIEW, "bind of %s at %s in the zone", b->vb_src, b->vb_dst);
	(void) close(fd);

	if (!b->vb_readonly)
		return;
	/* Opened anew: the old descriptor lies beneath the mount. */
	if ((fd = open_below(rootfd, b->vb_dst)) < 0)
		die(EXIT_VIEW, "%s in the zone", b->vb_dst);
	(void) memset(&attr, 0, sizeof (attr));
	attr.attr_set = MOUNT_ATTR_RDONLY;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr,
	    sizeof (attr)) != 0)
		die(EXIT_VIEW, "read-only bind at %s in the zone", b->vb_dst);
	(void) close(fd);
}

/* In the zone's root already: no link of the guest's leads out of it. A pipe or a device is not waited for. */
static void
set_nodename(void)
{
	char name[HOST_NAME_MAX + 1];
	int fd = open("/etc/nodename", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, name, sizeof (name));
	size_t end = 0;

	if (fd >= 0)
		(void) close(fd);
	while (len > 0 && end < (size_t)len && name[end] > ' ')
		end++;
	/* A zone without a name, or with one that is too long, keeps the machine's. */
	if (end > 0)
		(void) sethostname(name, end);
}

int
main(int argc, char **argv)
{
	view_t v;
	size_t i;
	int rootfd;

	(void) memset(&v, 0, sizeof (v));
	parse_args(argc, argv, &v);
	enter_namespaces(&v);

	rootfd = open(v.v_root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rootfd < 0)
		die(EXIT_VIEW, "%s", v.v_root);
	for (i = 0; i < v.v_nbinds; i++)
		bind_into(rootfd, &v.v_binds[i]);

	if (fchdir(rootfd) != 0 || chroot(".") != 0 || chdir("/") != 0)
		die(EXIT_VIEW, "chroot to %s", v.v_root);
	(void) close(rootfd);
	if (v.v_uts)
		set_nodename();

	(void) execvp(v.v_cmd[0], v.v_cmd);
	die(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN, "%s", v.v_cmd[0]);
}
