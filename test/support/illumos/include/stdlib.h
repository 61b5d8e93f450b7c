#ifndef _STDLIB_H
#define	_STDLIB_H

#include <stddef.h>

extern void *malloc(size_t);
extern void *calloc(size_t, size_t);
extern void *realloc(void *, size_t);
extern void free(void *);
extern char *getenv(const char *);
extern int atoi(const char *);
extern void exit(int) __attribute__((noreturn));

extern char *getenv(const char *);
extern int atoi(const char *);
extern void exit(int) __attribute__((noreturn));

#endif
