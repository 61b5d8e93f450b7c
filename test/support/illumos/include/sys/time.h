#ifndef _SYS_TIME_H
#define	_SYS_TIME_H

#include <sys/types.h>

#if !defined(_STRICT_SYMBOLS)
typedef longlong_t hrtime_t;
#endif

#endif
