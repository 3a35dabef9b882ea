/* int enter_enclave(rdi, rsi, rdx, function, r8, r9, run): calls the vDSO's function as C expects to be treated.
 *
 * The kernel's function leaves most registers to the enclave. An asynchronous exit puts 0 into R12 to R15, and RBX is
 * kept only if the enclave restores RSP: so all that belongs to the caller is saved here.
 */
	.text
	.globl enter_enclave
	.type enter_enclave, @function
enter_enclave:
	.cfi_startproc
	push %rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	mov %rsp, %rbp
	.cfi_def_cfa_register %rbp
	push %rbx
	.cfi_rel_offset %rbx, -8
	push %r12
	.cfi_rel_offset %r12, -16
	push %r13
	.cfi_rel_offset %r13, -24
	push %r14
	.cfi_rel_offset %r14, -32
	push %r15
	.cfi_rel_offset %r15, -40
	push 16(%rbp)				/* run, the seventh argument */
	call *vdso_enter(%rip)
	lea -40(%rbp), %rsp			/* RBP is what an enclave must restore */
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	.cfi_def_cfa %rsp, 8
	ret
	.cfi_endproc
	.size enter_enclave, . - enter_enclave

	.bss
	.balign 8
	.globl vdso_enter
vdso_enter:
	.quad 0
	.section .note.GNU-stack, "", @progbits
