/* SPDX-License-Identifier: Apache-2.0 */
/* Entering an enclave by an ENCLU of our own, or by the vDSO; and a few faults that are the host's own. */

	.text

	.macro	keep
	.cfi_startproc
	push	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	mov	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	push	%rbx
	.cfi_offset %rbx, -24
	push	%r12
	.cfi_offset %r12, -32
	push	%r13
	.cfi_offset %r13, -40
	push	%r14
	.cfi_offset %r14, -48
	push	%r15
	.cfi_offset %r15, -56
	push	%rcx
	.endm
	.macro	give_back
	lea	-40(%rbp), %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	.cfi_def_cfa %rsp, 8
	ret
	.cfi_endproc
	.endm

/*
 * int enter_by_enclu(uint64_t tcs, uint64_t command, uint64_t argument, struct left *left, const void *site)
 * 0, or -1: cannot be entered. The site is an ENCLU, and goes on at enclu_left.
 */
	.globl	enter_by_enclu, enclu_enter, enclu_left, enclu_aep, enclu_refused
	.type	enter_by_enclu, @function
enter_by_enclu:
	keep
	mov	%rdi, %rbx
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	$2, %eax			/* EENTER */
	lea	enclu_aep(%rip), %rcx
	jmp	*%r8
enclu_enter:
	enclu
enclu_left:
	mov	-48(%rbp), %rcx
	mov	%rdi, (%rcx)
	mov	%rsi, 8(%rcx)
	mov	%rdx, 16(%rcx)
	xor	%eax, %eax
1:	give_back
enclu_refused:
	mov	$-1, %eax
	jmp	1b
enclu_aep:
	enclu					/* EAX is ERESUME: an asynchronous exit has set it */
	ud2
	.size	enter_by_enclu, . - enter_by_enclu

/* int enter_by_vdso(function, uint64_t command, uint64_t argument, struct sgx_enclave_run *run) */
	.globl	enter_by_vdso
	.type	enter_by_vdso, @function
enter_by_vdso:
	keep
	sub	$8, %rsp
	push	%rcx
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	xor	%edx, %edx
	mov	$2, %ecx			/* EENTER */
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	call	*%rax
	give_back
	.size	enter_by_vdso, . - enter_by_vdso

/* Each faults at its first instruction; host_fault_end is where a handler may let it go on. */
	.globl	host_divide, host_illegal, host_read, host_protection, host_break, host_bus, host_fault_end
	.type	host_divide, @function
host_divide:
	idivl	zero(%rip)
	ret
host_illegal:
	ud2
	ret
host_read:
	movl	8, %eax
	ret
host_protection:
	hlt
	ret
host_break:
	int3
host_fault_end:
	ret
host_bus:
	movl	(%rdi), %eax
	ret

	.section .rodata
	.balign	4
zero:	.long	0
	.section .note.GNU-stack, "", @progbits
