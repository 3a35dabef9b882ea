/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cannot be said in C: a call made behind the handler's end, the end of a thread, and a jump into a handler.
 */
#include "monitor_asm.h"

	.text
	.globl	call_begin
	.hidden	call_begin
	.type	call_begin, @function
/* RAX and the arguments as for SYSCALL; RSP at struct call_frame. RCX is free: SYSCALL takes it. */
call_begin:
	.cfi_startproc simple
	.cfi_def_cfa %rsp, 192
	.cfi_offset %rip, -192
	syscall
	.globl	call_made
	.hidden	call_made
call_made:
	movq	(%rsp), %rcx
	movq	8(%rsp), %rdi
	movq	16(%rsp), %r10
	movq	24(%rsp), %r8
	movq	32(%rsp), %r9
	.globl	call_loaded
	.hidden	call_loaded
call_loaded:
	leaq	192(%rsp), %rsp
	jmp	*%rcx
	.globl	call_end
	.hidden	call_end
call_end:
	.cfi_endproc
	.size	call_begin, . - call_begin

	.globl	exit_call
	.hidden	exit_call
	.type	exit_call, @function
exit_call:
	movl	$0, LOGICAL_PROCESSOR_ATTACHED(%rbx)
	movl	$60, %eax
	syscall
	hlt
	.size	exit_call, . - exit_call

	.globl	start_handler
	.hidden	start_handler
	.type	start_handler, @function
start_handler:
	movq	%r8, %rsp
	xorl	%eax, %eax
	cld
	jmp	*%rcx
	.size	start_handler, . - start_handler

	.section .note.GNU-stack, "", @progbits
