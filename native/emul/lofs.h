/*
 * umount2(2) as Linux means it, for the files that call the kernel by number: <sys/mount.h> cannot be
 * included next to the platform's prototypes.
 */
#ifndef LOFS_H
#define	LOFS_H

#define	LINUX_MNT_DETACH	0x2
#define	LINUX_UMOUNT_NOFOLLOW	0x8

#endif
