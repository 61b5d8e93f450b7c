#ifndef _SYS_MOUNT_H
#define	_SYS_MOUNT_H

#define	MS_OPTIONSTR	0x0100
#define	MS_FORCE	0x0400

extern int mount(const char *, const char *, int, ...);
extern int umount2(const char *, int);

#endif
