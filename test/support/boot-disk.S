/*
 * The boot sector of a disk that needs no operating system: a guest for simcn's tests (boot-disk.ts).
 *
 * It says on its console (the first serial port) that it runs. Then, for each byte that it gets there: `g` asks
 * the metadata agent on the second port, `q` powers the machine off. What comes from the second port goes to
 * the console.
 */
	.code16
	.globl _start
_start:
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %ss
	movw $0x7c00, %sp
	movw $0x3f8, %di
	movw $hello, %si
	call sends
poll:
	movw $0x2f8, %di
	call received
	jz 1f
	movw $0x3f8, %di
	call send
1:	movw $0x3f8, %di
	call received
	jz poll
	cmpb $'q', %al
	je off
	cmpb $'g', %al
	jne poll
	movw $0x2f8, %di
	movw $request, %si
	call sends
	jmp poll
off:	movw $0x604, %dx	/* ACPI's power management control, where QEMU's BIOS puts it */
	movw $0x2000, %ax
	outw %ax, %dx
	hlt

/* A byte of the port at di, in al; zero flag: there is none. */
received:
	leaw 5(%di), %dx
	inb %dx, %al
	testb $0x01, %al
	jz 2f
	movw %di, %dx
	inb %dx, %al
	orb $1, %ah
	testb %ah, %ah
2:	ret

/* The text at si, up to its NUL, to the port at di. */
sends:	lodsb
	testb %al, %al
	jz 2b
	call send
	jmp sends

send:	movb %al, %cl
	leaw 5(%di), %dx
3:	inb %dx, %al
	testb $0x20, %al
	jz 3b
	movw %di, %dx
	movb %cl, %al
	outb %al, %dx
	ret

hello:	.asciz "booted from the disk\r\n"
request: .asciz "GET sdc:alias\n"
	.org 510
	.word 0xaa55
