/* SPDX-License-Identifier: Apache-2.0 */
/*
 * swsgx_call(struct swsgx_enclave_call *): from Python into the vDSO function and back, with all registers
 * given and all registers returned. An enclave may leave flags, MXCSR and the x87 state as it likes; our
 * caller's come back.
 *
 * The call is made on a stack of its own. An enclave keeps the RSP and RBP of the EENTER that started it and
 * gives them back at EEXIT, also when an ERESUME from another call came in between: so EENTER and ERESUME of
 * one activation must see the same stack at the same address. A program's own frames do that by themselves
 * (it resumes where it entered); calls from Python do not. Everything here is at the same distance from
 * call->stack in each call, and the run pointer is written afresh.
 */
#include "monitor_asm.h"

#define REG(name) (ENCLAVE_CALL_REGISTERS + REGISTERS_##name)

	.text
	.globl	swsgx_call
	.type	swsgx_call, @function
	.p2align 6
swsgx_call:
	.cfi_startproc
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushfq
	movq	%rsp, %rax
	movq	ENCLAVE_CALL_STACK(%rdi), %rsp
	pushq	%rax				/* 8(%rbp): the caller's stack */
	pushq	%rdi				/* (%rbp): the call */
	movq	%rsp, %rbp
	/* CFA = *(RBP + 8) + 64, that is, the caller's RSP before its call instruction. */
	.cfi_escape 0x0f, 0x05, 0x76, 0x08, 0x06, 0x23, 0x40
	.cfi_offset %rbp, -16
	.cfi_offset %rbx, -24
	.cfi_offset %r12, -32
	.cfi_offset %r13, -40
	.cfi_offset %r14, -48
	.cfi_offset %r15, -56
	subq	$8, %rsp
	pushq	%rdi				/* the run structure is the call's first field: stack argument */
	stmxcsr	ENCLAVE_CALL_MXCSR(%rdi)
	fnstcw	ENCLAVE_CALL_FCW(%rdi)
	movl	ENCLAVE_CALL_FUNCTION(%rdi), %ecx
	movq	REG(R8)(%rdi), %r8
	movq	REG(R9)(%rdi), %r9
	movq	REG(R10)(%rdi), %r10
	movq	REG(R11)(%rdi), %r11
	movq	REG(R12)(%rdi), %r12
	movq	REG(R13)(%rdi), %r13
	movq	REG(R14)(%rdi), %r14
	movq	REG(R15)(%rdi), %r15
	movq	REG(RSI)(%rdi), %rsi
	movq	REG(RDX)(%rdi), %rdx
	movq	REG(RDI)(%rdi), %rdi
	call	swsgx_enter_enclave
	/* RBP is ours (the function's contract), and so is the stack relative to it. */
	movq	(%rbp), %rbx			/* the call */
	movl	%eax, ENCLAVE_CALL_RESULT(%rbx)
	pushfq
	popq	%rax
	movq	%rax, REG(RFLAGS)(%rbx)
	movq	%rdi, REG(RDI)(%rbx)
	movq	%rsi, REG(RSI)(%rbx)
	movq	%rdx, REG(RDX)(%rbx)
	movq	%rcx, REG(RCX)(%rbx)
	movq	%r8, REG(R8)(%rbx)
	movq	%r9, REG(R9)(%rbx)
	movq	%r10, REG(R10)(%rbx)
	movq	%r11, REG(R11)(%rbx)
	movq	%r12, REG(R12)(%rbx)
	movq	%r13, REG(R13)(%rbx)
	movq	%r14, REG(R14)(%rbx)
	movq	%r15, REG(R15)(%rbx)
	movq	%rsp, REG(RSP)(%rbx)
	ldmxcsr	ENCLAVE_CALL_MXCSR(%rbx)
	fninit					/* nor a full x87 stack, nor an exception that waits for FLDCW */
	fldcw	ENCLAVE_CALL_FCW(%rbx)
	movl	ENCLAVE_CALL_RESULT(%rbx), %eax
	movq	8(%rbp), %rsp
	popfq					/* nor AC, which compiled code does not survive */
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	.cfi_def_cfa %rsp, 8
	ret
	.cfi_endproc
	.size	swsgx_call, . - swsgx_call

/* swsgx_raw_round_trips(struct swsgx_enclave_call *): what a hand-written ENCLU stub does, call->count times. */
	.globl	swsgx_raw_round_trips
	.type	swsgx_raw_round_trips, @function
	.p2align 6
swsgx_raw_round_trips:
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	movq	%rdi, %r12
	movq	ENCLAVE_CALL_COUNT(%rdi), %r13
	testq	%r13, %r13
	jz	3f
	xorl	%edi, %edi			/* the bare example: do nothing inside */
1:	movl	$ENCLU_EENTER, %eax
	movq	ENCLAVE_RUN_TCS(%r12), %rbx
	leaq	2f(%rip), %rcx
2:	.byte	0x0f, 0x01, 0xd7		/* ENCLU */
	decq	%r13
	jnz	1b
3:	popq	%r13
	popq	%r12
	popq	%rbx
	ret
	.size	swsgx_raw_round_trips, . - swsgx_raw_round_trips

	.section .note.GNU-stack, "", @progbits
