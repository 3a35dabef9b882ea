/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first code of a supervised program, before its own: RDI is the program's entry point, RSP as exec left it.
 * The program then starts with all registers zero, as the kernel promises.
 */
	.text
	.globl	swsgx_target_start
	.type	swsgx_target_start, @function
swsgx_target_start:
	sub	$8, %rsp
	push	%rdi
	lea	16(%rsp), %rdi		/* argc, argv, environment, auxv */
	call	supervised_prepare
	add	$16, %rsp
	xor	%eax, %eax
	xor	%ebx, %ebx
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	jmp	*-16(%rsp)		/* a signal leaves 128 bytes below RSP alone */
	.size	swsgx_target_start, . - swsgx_target_start

	/* Spelt as libc spells it: unwinders and debuggers know a signal frame by these bytes. */
	.globl	supervised_restorer
	.hidden	supervised_restorer
	.type	supervised_restorer, @function
	nop
supervised_restorer:
	.byte	0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0	/* mov $__NR_rt_sigreturn, %rax */
	syscall
	.size	supervised_restorer, . - supervised_restorer
	.section .note.GNU-stack, "", @progbits
