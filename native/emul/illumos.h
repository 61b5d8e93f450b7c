/*
 * The platform's types, constants and functions as a program off illumos needs them: what <zone.h>,
 * <libzonecfg.h>, <ucred.h> and <sys/mount.h> say there. The numbers are illumos' own, not Linux'.
 */
#ifndef ILLUMOS_H
#define	ILLUMOS_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define	PLATFORM_EXPORT	__attribute__((visibility("default")))

typedef int32_t zoneid_t;
typedef uint32_t zone_state_t;
typedef int32_t zone_status_t;
typedef int64_t hrtime_t;
typedef unsigned int uint_t;

#define	GLOBAL_ZONEID	0
#define	GLOBAL_ZONENAME	"global"
#define	MIN_USERZONEID	1
#define	MAX_ZONEID	9999
#define	ZONENAME_MAX	64
/* Of zones without a brand of their own; the global zone is one. */
#define	NATIVE_BRAND_NAME	"native"
#define	MAXPATHLEN	1024

#define	ZONE_ATTR_ROOT		1
#define	ZONE_ATTR_NAME		2
#define	ZONE_ATTR_STATUS	3
#define	ZONE_ATTR_UNIQID	5
#define	ZONE_ATTR_INITPID	7
#define	ZONE_ATTR_BRAND		11

#define	ZONE_IS_UNINITIALIZED	0
#define	ZONE_IS_INITIALIZED	1
#define	ZONE_IS_READY		2
#define	ZONE_IS_BOOTING		3
#define	ZONE_IS_RUNNING		4
#define	ZONE_IS_SHUTTING_DOWN	5
#define	ZONE_IS_EMPTY		6
#define	ZONE_IS_DOWN		7
#define	ZONE_IS_DYING		8
#define	ZONE_IS_DEAD		9
#define	ZONE_IS_FREE		10

#define	ZONE_STATE_CONFIGURED		0
#define	ZONE_STATE_INCOMPLETE		1
#define	ZONE_STATE_INSTALLED		2
#define	ZONE_STATE_READY		3
#define	ZONE_STATE_RUNNING		4
#define	ZONE_STATE_SHUTTING_DOWN	5
#define	ZONE_STATE_DOWN			6
#define	ZONE_STATE_MOUNTED		7

#define	Z_OK			0
#define	Z_NOMEM			11
#define	Z_INVAL			12
#define	Z_ACCES			13
#define	Z_NO_ZONE		16
#define	Z_BAD_ZONE_STATE	21
#define	Z_INVALID_DOCUMENT	22
#define	Z_SYSTEM		28

/* The platform's mount(2) flags; Linux' of the same names have other numbers. */
#define	ILLUMOS_MS_OVERLAY	0x80
#define	ILLUMOS_MS_OPTIONSTR	0x100
#define	ILLUMOS_MS_FORCE	0x400

PLATFORM_EXPORT zoneid_t getzoneidbyname(const char *name);
PLATFORM_EXPORT ssize_t getzonenamebyid(zoneid_t id, char *buf, size_t len);
PLATFORM_EXPORT int zone_list(zoneid_t *ids, unsigned int *count);
PLATFORM_EXPORT ssize_t zone_getattr(zoneid_t id, int attr, void *buf, size_t len);

PLATFORM_EXPORT int zone_get_state(char *name, zone_state_t *state);
PLATFORM_EXPORT int zone_get_zonepath(char *name, char *buf, size_t len);
PLATFORM_EXPORT int zone_get_rootpath(char *name, char *buf, size_t len);
PLATFORM_EXPORT int zone_get_brand(char *name, char *buf, size_t len);
PLATFORM_EXPORT void zonecfg_set_root(const char *root);

PLATFORM_EXPORT int mount(const char *special, const char *dir, int flags, ...);
PLATFORM_EXPORT int umount2(const char *dir, int flags);

typedef struct ucred_s ucred_t;
PLATFORM_EXPORT int getpeerucred(int fd, ucred_t **ucred);
PLATFORM_EXPORT void ucred_free(ucred_t *ucred);
PLATFORM_EXPORT zoneid_t ucred_getzoneid(const ucred_t *ucred);
PLATFORM_EXPORT pid_t ucred_getpid(const ucred_t *ucred);
PLATFORM_EXPORT uid_t ucred_geteuid(const ucred_t *ucred);

#endif
