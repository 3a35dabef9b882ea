/* SPDX-License-Identifier: Apache-2.0 */
/*
 * __vdso_sgx_enter_enclave as the 2019 series had it (v22 and v23), for programs of that time; our own code.
 *
 * EAX is the leaf; at the call 8(%rsp) is the TCS, 16(%rsp) an exception info of 32 bytes or 0, 24(%rsp) a callback or 0.
 * Returns 0 after an EEXIT, -EFAULT after an exception, -EINVAL for another leaf. The callback has RDI, RSI, RDX, R8
 * and R9 as at the exit, RCX = the info, and on the stack the TCS and RSP at the exit; more than 0 enters again with
 * that leaf. Only RBP is preserved.
 */
#include "monitor_asm.h"

#define TCS 16(%rbp)
#define INFO 24(%rbp)
#define CALLBACK 32(%rbp)
#define INFO_LEAF 0
#define INFO_TRAPNR 4
#define INFO_ERROR_CODE 6
#define INFO_ADDRESS 8
#define MINUS_EFAULT -14
#define MINUS_EINVAL -22

	.text
	.globl	enter_enclave_v23
	.hidden	enter_enclave_v23
	.type	enter_enclave_v23, @function
	.p2align 6
enter_enclave_v23:
	.cfi_startproc
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
.Lenter:
	cmpl	$ENCLU_EENTER, %eax
	jb	.Linvalid
	cmpl	$ENCLU_ERESUME, %eax
	ja	.Linvalid
	movq	TCS, %rbx
	leaq	enter_v23_aep(%rip), %rcx

	.globl	enter_v23_aep
	.hidden	enter_v23_aep
enter_v23_aep:
	.byte	0xe9				/* jmp enclu_entry, AEP_BYTES long */
	.long	enclu_entry - . - 4

	movq	INFO, %rcx
	xorl	%eax, %eax
	testq	%rcx, %rcx
	jz	.Lout
	movl	$ENCLU_EEXIT, INFO_LEAF(%rcx)
.Lout:
	cmpq	$0, CALLBACK
	jne	.Lcallback
.Lreturn:
	leave
	.cfi_def_cfa %rsp, 8
	.cfi_restore %rbp
	ret

	.cfi_def_cfa %rbp, 16
	.cfi_rel_offset %rbp, 0
.Linvalid:
	movl	$MINUS_EINVAL, %eax
	jmp	.Lreturn

	.globl	enter_v23_fixup
	.hidden	enter_v23_fixup
enter_v23_fixup:
	movq	INFO, %rcx
	testq	%rcx, %rcx
	jz	1f
	movl	%eax, INFO_LEAF(%rcx)
	movw	%di, INFO_TRAPNR(%rcx)
	movw	%si, INFO_ERROR_CODE(%rcx)
	movq	%rdx, INFO_ADDRESS(%rcx)
1:	movl	$MINUS_EFAULT, %eax
	jmp	.Lout

.Lcallback:
	movq	INFO, %rcx
	movq	%rsp, %rbx			/* RSP at the exit, for the callback and for us: a call preserves it */
	andq	$-16, %rsp
	pushq	%rbx
	pushq	TCS
	cld
	lfence
	call	*CALLBACK
	movq	%rbx, %rsp
	testl	%eax, %eax
	jg	.Lenter
	jmp	.Lreturn
	.cfi_endproc
	.size	enter_enclave_v23, . - enter_enclave_v23

	/* Set before the program's first instruction: this form is wanted. */
	.section .bss
	.globl	enter_form_v23
	.hidden	enter_form_v23
enter_form_v23:
	.byte	0
	.section .note.GNU-stack, "", @progbits
