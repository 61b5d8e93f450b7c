#ifndef _STDLIB_H
#define	_STDLIB_H

#include <stddef.h>

extern void *malloc(size_t);
extern void *calloc(size_t, size_t);
extern void *realloc(void *, size_t);
extern void free(void *);

#endif
