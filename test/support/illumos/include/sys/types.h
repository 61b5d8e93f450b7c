#ifndef _SYS_TYPES_H
#define	_SYS_TYPES_H

#include <sys/feature_tests.h>
#include <stddef.h>

typedef long ssize_t;
typedef int id_t;
typedef int pid_t;
typedef unsigned int uid_t;
typedef unsigned int gid_t;
typedef unsigned int mode_t;
typedef unsigned long dev_t;
typedef unsigned long ino_t;
typedef long off_t;
typedef long time_t;
typedef unsigned int pthread_t;

#if !defined(_STRICT_SYMBOLS)
typedef unsigned char uchar_t;
typedef unsigned short ushort_t;
typedef unsigned int uint_t;
typedef unsigned long ulong_t;
typedef long long longlong_t;
typedef id_t zoneid_t;
#endif

typedef struct _pthread_mutex { unsigned long m[3]; } pthread_mutex_t;
typedef struct _pthread_cond { unsigned long c[2]; } pthread_cond_t;
typedef struct _pthread_attr { void *a; } pthread_attr_t;
typedef struct _pthread_mutexattr { void *a; } pthread_mutexattr_t;
typedef struct _pthread_condattr { void *a; } pthread_condattr_t;

#endif
