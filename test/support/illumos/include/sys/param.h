#ifndef _SYS_PARAM_H
#define	_SYS_PARAM_H

#define	MAXPATHLEN	1024

#endif
