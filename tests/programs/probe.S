/* A program that enters an enclave with registers of its choice, and looks at all of them afterwards.
 *
 * probe_raw(): its own ENCLU, its own AEP. probe_vdso(function): through __vdso_sgx_enter_enclave. Registers come from
 * probe_in; where the thread appears again, they go to probe_out, and probe_landed says where that was. One thread
 * at a time.
 * The layout of a state: tests/make/native_enclave.py, State.
 */
#define LANDED_EXIT 1
#define LANDED_AEP 2
#define LANDED_RETURN 3

	.bss
	.balign 4096
	.globl probe_in, probe_out, probe_run, probe_mask, probe_landed, probe_hits
probe_in:	.skip 4096
probe_out:	.skip 4096
probe_run:	.skip 256	/* struct sgx_enclave_run */
probe_mask:	.skip 8		/* components of extended state to load and to store */
probe_landed:	.skip 8
probe_hits:	.skip 8		/* how often the thread landed */
host_rsp:	.skip 8
host_fsbase:	.skip 8
host_gsbase:	.skip 8
target:		.skip 8
host_fp:	.skip 8
scratch:	.skip 4096
scratch_end:
	.globl probe_stack
stack:	.skip 65536
probe_stack:

	.text
	.macro	enter_host
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushfq
	stmxcsr	host_fp(%rip)
	fnstcw	host_fp+4(%rip)
	mov	%rsp, host_rsp(%rip)
	mov	%rdi, target(%rip)
	rdfsbase %rax
	mov	%rax, host_fsbase(%rip)
	rdgsbase %rax
	mov	%rax, host_gsbase(%rip)
	mov	probe_in+152(%rip), %rax
	wrgsbase %rax
	mov	probe_mask(%rip), %eax
	mov	probe_mask+4(%rip), %edx
	xrstor64 probe_in+192(%rip)
	.endm

	.macro	load_flags
	pushq	probe_in+128(%rip)
	popfq
	.endm

	.macro	load_rest
	mov	probe_in+16(%rip), %rdx
	mov	probe_in+48(%rip), %rsi
	mov	probe_in+56(%rip), %rdi
	mov	probe_in+64(%rip), %r8
	mov	probe_in+72(%rip), %r9
	mov	probe_in+80(%rip), %r10
	mov	probe_in+88(%rip), %r11
	mov	probe_in+96(%rip), %r12
	mov	probe_in+104(%rip), %r13
	mov	probe_in+112(%rip), %r14
	mov	probe_in+120(%rip), %r15
	.endm

	.globl probe_raw
	.type probe_raw, @function
probe_raw:
	enter_host
	load_flags
	load_rest
	mov	probe_in+0(%rip), %rax
	mov	probe_in+8(%rip), %rcx
	mov	probe_in+24(%rip), %rbx
	mov	probe_in+40(%rip), %rbp
	mov	probe_in+32(%rip), %rsp
	.globl probe_enclu
probe_enclu:
	enclu

	/* EEXIT: to the instruction behind ENCLU, and here also for those who are told so. */
	.globl probe_exit
probe_exit:
	movq	$LANDED_EXIT, probe_landed(%rip)
	jmp	landed

	.globl probe_aep
probe_aep:
	movq	$LANDED_AEP, probe_landed(%rip)
	jmp	landed

	/* The place in the vDSO function that is entry and AEP, with any flags; RSP must be a stack: probe_stack. */
	.globl probe_site
	.type probe_site, @function
probe_site:
	enter_host
	load_flags
	load_rest
	mov	probe_in+0(%rip), %rax
	mov	probe_in+8(%rip), %rcx
	mov	probe_in+24(%rip), %rbx
	mov	probe_in+40(%rip), %rbp
	mov	probe_in+32(%rip), %rsp
	jmp	*target(%rip)

	/* Prefixes that ENCLU ignores. */
	.globl probe_prefixed
	.type probe_prefixed, @function
probe_prefixed:
	enter_host
	load_flags
	load_rest
	mov	probe_in+0(%rip), %rax
	mov	probe_in+8(%rip), %rcx
	mov	probe_in+24(%rip), %rbx
	mov	probe_in+40(%rip), %rbp
	mov	probe_in+32(%rip), %rsp
	.byte	0x3e, 0x48, 0x0f, 0x01, 0xd7
	.globl probe_prefixed_after
probe_prefixed_after:
	jmp	probe_exit

	.globl probe_vdso
	.type probe_vdso, @function
probe_vdso:
	enter_host
	sub	$8, %rsp
	lea	probe_run(%rip), %rax
	push	%rax
	load_flags
	load_rest
	mov	probe_in+0(%rip), %ecx
	call	*target(%rip)
	movq	$LANDED_RETURN, probe_landed(%rip)

landed:
	mov	%rax, probe_out+0(%rip)
	mov	%rcx, probe_out+8(%rip)
	mov	%rdx, probe_out+16(%rip)
	mov	%rbx, probe_out+24(%rip)
	mov	%rsp, probe_out+32(%rip)
	mov	%rbp, probe_out+40(%rip)
	mov	%rsi, probe_out+48(%rip)
	mov	%rdi, probe_out+56(%rip)
	mov	%r8, probe_out+64(%rip)
	mov	%r9, probe_out+72(%rip)
	mov	%r10, probe_out+80(%rip)
	mov	%r11, probe_out+88(%rip)
	mov	%r12, probe_out+96(%rip)
	mov	%r13, probe_out+104(%rip)
	mov	%r14, probe_out+112(%rip)
	mov	%r15, probe_out+120(%rip)
	lea	scratch_end(%rip), %rsp
	pushfq
	popq	probe_out+128(%rip)
	rdfsbase %rax
	mov	%rax, probe_out+144(%rip)
	rdgsbase %rax
	mov	%rax, probe_out+152(%rip)
	mov	probe_mask(%rip), %eax
	mov	probe_mask+4(%rip), %edx
	xsave64	probe_out+192(%rip)
	incq	probe_hits(%rip)

	mov	host_fsbase(%rip), %rax
	wrfsbase %rax
	mov	host_gsbase(%rip), %rax
	wrgsbase %rax
	mov	host_rsp(%rip), %rsp
	fninit
	fldcw	host_fp+4(%rip)
	ldmxcsr	host_fp(%rip)
	vzeroupper
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	ret

	.section .note.GNU-stack, "", @progbits
