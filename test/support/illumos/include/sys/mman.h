#ifndef _SYS_MMAN_H
#define	_SYS_MMAN_H

#include <sys/types.h>

#define	PROT_READ	0x1
#define	PROT_WRITE	0x2
#define	MAP_PRIVATE	2
#if !defined(_STRICT_SYMBOLS)
#define	MAP_ANON	0x100
#endif
#define	MAP_FAILED	((void *)-1)

extern void *mmap(void *, size_t, int, int, int, off_t);
extern int munmap(void *, size_t);

#endif
