/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The first sector of the disk: loads the sectors behind it to 0x7e00, right behind itself, and goes on in main.c.
 * Everything lies below 64 KiB, with all segments 0. The builder puts the partition table behind the code.
 */
	.code16
	.section .start, "ax"
	.globl _start, drive
_start:
	ljmp $0, $1f
1:	cli
	cld
	xorl %eax, %eax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl $_start, %esp
	sti
	movb %dl, drive
	movw $packet, %si
	movb $0x42, %ah		/* extended read */
	int $0x13
	jc 2f
	movl $__bss_start, %edi
	movl $__bss_size, %ecx
	xorb %al, %al
	rep stosb
	calll run
2:	hlt
	jmp 2b

	.align 4
packet:	.byte 16, 0
	.word __sectors, 0x7e00, 0
	.long 1, 0
drive:	.byte 0

	.org 510
	.word 0xaa55
