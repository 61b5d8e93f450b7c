#ifndef _STDIO_H
#define	_STDIO_H

extern int rename(const char *, const char *);

#endif
