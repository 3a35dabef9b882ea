/* SPDX-License-Identifier: Apache-2.0 */
/* Two ways into an enclave, for callers in C: an asynchronous exit leaves 0 in R12 to R15, and an enclave may, too. */
	.macro	save register
	push	\register
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset \register, 0
	.endm
	.macro	restore register
	pop	\register
	.cfi_adjust_cfa_offset -8
	.cfi_restore \register
	.endm
	.macro	save_all
	save	%rbx
	save	%rbp
	save	%r12
	save	%r13
	save	%r14
	save	%r15
	.endm
	.macro	restore_all
	restore	%r15
	restore	%r14
	restore	%r13
	restore	%r12
	restore	%rbp
	restore	%rbx
	.endm

	.text
/* int vdso_call(rdi, rsi, rdx, function, r8, r9, run): the function at vdso_enter. */
	.globl	vdso_call
	.type	vdso_call, @function
vdso_call:
	.cfi_startproc
	save_all
	sub	$8, %rsp
	.cfi_adjust_cfa_offset 8
	push	64(%rsp)
	.cfi_adjust_cfa_offset 8
	call	*vdso_enter(%rip)
	add	$16, %rsp
	.cfi_adjust_cfa_offset -16
	restore_all
	ret
	.cfi_endproc
	.size	vdso_call, . - vdso_call

/*
 * int raw_call(rdi, rsi, rdx, leaf, r8, r9, tcs): an ENCLU of our own, at raw_enclu, which is its own AEP. Returns 4,
 * what EAX is after EEXIT; or 0 if a signal handler goes on at raw_abandon.
 */
	.globl	raw_call, raw_enclu, raw_abandon
	.type	raw_call, @function
raw_call:
	.cfi_startproc
	save_all
	mov	%ecx, %eax
	mov	56(%rsp), %rbx
	lea	raw_enclu(%rip), %rcx
raw_enclu:
	.byte	0x0f, 0x01, 0xd7
1:	.cfi_remember_state
	restore_all
	ret
	.cfi_restore_state
raw_abandon:
	xor	%eax, %eax
	jmp	1b
	.cfi_endproc
	.size	raw_call, . - raw_call

	.bss
	.balign	8
	.globl	vdso_enter
vdso_enter:
	.quad	0
	.section .note.GNU-stack, "", @progbits
