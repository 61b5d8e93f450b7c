#ifndef _STDIO_H
#define	_STDIO_H

#include <stddef.h>

extern int snprintf(char *restrict, size_t, const char *restrict, ...);
extern int rename(const char *, const char *);

#include <stddef.h>
extern int snprintf(char *restrict, size_t, const char *restrict, ...);

#endif
