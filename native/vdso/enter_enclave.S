/* SPDX-License-Identifier: Apache-2.0 */
/*
 * __vdso_sgx_enter_enclave: the contract of Linux (uapi asm/sgx.h, "vdso_sgx_enter_enclave_t"), our own code.
 *
 * RDI, RSI, RDX, R8, R9 (and R10..R15) go through to the enclave; ECX is the leaf; 8(%rsp) at the call is a
 * struct sgx_enclave_run. Returns 0 after an EEXIT and after an exception alike: run->function tells which.
 * The image for supervised programs exports it under the kernel's name (target.lds).
 * RBP is the anchor: the enclave must bring it back; RBX comes from the stack that the enclave left with.
 */
#include "monitor_asm.h"

#define RUN 16(%rbp)
#define MINUS_EINVAL -22
#define MINUS_EINTR -4

	.text
	.globl	swsgx_enter_enclave
	.type	swsgx_enter_enclave, @function
	.globl	__vdso_sgx_enter_enclave
	.type	__vdso_sgx_enter_enclave, @function
	.p2align 6
__vdso_sgx_enter_enclave:
	.cfi_startproc
	cmpb	$0, enter_form_v23(%rip)
	jne	enter_enclave_v23
swsgx_enter_enclave:
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	pushq	%rbx
	.cfi_rel_offset %rbx, -8
	movl	%ecx, %eax
.Lenter:
	cmpl	$ENCLU_EENTER, %eax
	jb	.Linvalid
	cmpl	$ENCLU_ERESUME, %eax
	ja	.Linvalid
	movq	RUN, %rbx
	.set	offset, ENCLAVE_RUN_USER_DATA + 8
	.rept	27				/* the reserved quadwords behind it; unrolled, a loop costs as much as EEXIT */
	cmpq	$0, offset(%rbx)
	jne	.Linvalid
	.set	offset, offset + 8
	.endr
	movq	ENCLAVE_RUN_TCS(%rbx), %rbx
	leaq	enter_aep(%rip), %rcx

	/* One place is entry and AEP: after an AEX the thread comes back here with EAX = ERESUME. */
	.globl	enter_aep
	.hidden	enter_aep
enter_aep:
	.byte	0xe9				/* jmp enclu_entry, AEP_BYTES long */
	.long	enclu_entry - . - 4

	/* EEXIT comes here. */
	movq	RUN, %rbx
	movl	$ENCLU_EEXIT, ENCLAVE_RUN_FUNCTION(%rbx)
.Lout:
	cmpq	$0, ENCLAVE_RUN_USER_HANDLER(%rbx)
	jne	.Lhandler
	xorl	%eax, %eax
.Lreturn:
	popq	%rbx
	.cfi_remember_state
	.cfi_restore %rbx
	leave
	.cfi_restore %rbp
	.cfi_def_cfa %rsp, 8
	ret

	.cfi_restore_state
.Linvalid:
	movl	$MINUS_EINVAL, %eax
	jmp	.Lreturn

	/* The monitor's counterpart of the kernel's exception fixup: RDI vector, RSI error code, RDX address. */
	.globl	enter_fixup
	.hidden	enter_fixup
enter_fixup:
	movq	RUN, %rbx
	movl	%eax, ENCLAVE_RUN_FUNCTION(%rbx)
	movw	%di, ENCLAVE_RUN_EXCEPTION_VECTOR(%rbx)
	movw	%si, ENCLAVE_RUN_EXCEPTION_ERROR_CODE(%rbx)
	movq	%rdx, ENCLAVE_RUN_EXCEPTION_ADDR(%rbx)
	jmp	.Lout

	/* In our own process only: a signal wants the call to end; ERESUME goes on later. */
	.globl	enter_interrupted
	.hidden	enter_interrupted
enter_interrupted:
	movq	RUN, %rbx
	movl	%eax, ENCLAVE_RUN_FUNCTION(%rbx)
	movl	$MINUS_EINTR, %eax
	jmp	.Lreturn

.Lhandler:
	movq	%rsp, %rcx			/* RSP at exit, for the handler and for us */
	andq	$-16, %rsp
	pushq	%rcx
	pushq	%rbx				/* its stack argument: run */
	cld
	lfence
	call	*ENCLAVE_RUN_USER_HANDLER(%rbx)
	popq	%rbx
	popq	%rsp
	testl	%eax, %eax
	jg	.Lenter
	jmp	.Lreturn
	.cfi_endproc
	.size	swsgx_enter_enclave, . - swsgx_enter_enclave
	.size	__vdso_sgx_enter_enclave, . - __vdso_sgx_enter_enclave

	.section .note.GNU-stack, "", @progbits
