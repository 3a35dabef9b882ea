/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The paths that are hot or that no compiler can express: entering an enclave, leaving it by EEXIT.
 *
 * Entering must leave all registers and flags as they were but RAX (CSSA), RCX (the address after ENCLU) and
 * the bases; leaving by EEXIT all but RCX (the AEP). So every instruction here is chosen by which registers
 * and flags it touches. Ranges between labels are known to signal.c, settle(): change both together.
 *
 * Which thread is leaving? RSP, FS and GS are the enclave's. The stub of the enclave looks its GS base up in
 * the exit table; every TCS has its own GS base in all runtimes known to us. An ambiguous or unknown base takes
 * the long way: HLT, and the handler knows the thread by its alternate stack. (A thread that sets its GS base to
 * that of another thread that is inside leaves with the other's state: see docs/coverage.md, "not seen".)
 */
#include "monitor_asm.h"

	.text

/*
 * ENCLU of a site of ours: EAX leaf, RBX TCS, RCX the site's address (AEP; a 5-byte jump to here), RSP a stack
 * of the program. May use the stack below the red zone, as any signal may.
 */
	.globl	enclu_entry
	.hidden	enclu_entry
	.type	enclu_entry, @function
	.p2align 6
enclu_entry:
	leaq	-ENTER_RED_ZONE(%rsp), %rsp
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	movl	%eax, %edi
	lahf					/* POPFQ is slow; the system flags we never touch */
	seto	%al
	pushq	%rax
	cmpl	$ENCLU_EENTER, %edi
	jne	.Lslow

	rdfsbase %rdx				/* RSI = LogicalProcessor, by FS base; 0 is the key of an empty line */
	testq	%rdx, %rdx
	jz	.Lslow_eenter
	movq	%rdx, %rsi
	movq	%rdx, %rdi
	shrq	$12, %rsi
	shrq	$23, %rdi
	addl	%edi, %esi
	andl	$(LP_CACHE_ENTRIES - 1), %esi
	shll	$4, %esi
	leaq	monitor_state(%rip), %rdi
	cmpq	%rdx, (%rdi,%rsi)
	jne	.Lslow_eenter
	movq	8(%rdi,%rsi), %rsi
	cmpq	$0, LOGICAL_PROCESSOR_RECORD(%rsi)
	jne	.Lslow_eenter

	testq	%rbx, %rbx			/* RDI = ThreadRecord, by TCS address; 0 likewise */
	jz	.Lslow_eenter
	movl	%ebx, %eax
	shrl	$12, %eax
	andl	$(RECORD_CACHE_ENTRIES - 1), %eax
	shll	$4, %eax
	cmpq	%rbx, RECORD_CACHE_OFFSET(%rdi,%rax)
	jne	.Lslow_eenter
	movq	RECORD_CACHE_OFFSET + 8(%rdi,%rax), %rdi

	/* Before the lock, too: what was a TCS once may be a page of data now, and keeps its first bytes. */
	movq	THREAD_RECORD_HEAD(%rdi), %rax
	movq	ENCLAVE_HEAD_GENERATION(%rax), %rax
	cmpq	%rax, THREAD_RECORD_GENERATION(%rdi)
	jne	.Lslow_eenter
	movq	THREAD_RECORD_TCS_PAGE(%rdi), %rax
	lock btsq $0, TCS_STATE(%rax)
	.globl	enter_locked
	.hidden	enter_locked
enter_locked:					/* from here to the commit a signal undoes it all */
	jc	.Lslow_eenter			/* busy: refused there */
	movq	%rdx, THREAD_RECORD_HOST_FSBASE(%rdi)
	movl	TCS_CSSA(%rax), %edx
	cmpl	%edx, THREAD_RECORD_CSSA(%rdi)
	jne	.Lunlock
	movq	THREAD_RECORD_HEAD(%rdi), %rdx
	movq	ENCLAVE_HEAD_GENERATION(%rdx), %rdx
	cmpq	%rdx, THREAD_RECORD_GENERATION(%rdi)
	jne	.Lunlock

	movq	%rcx, TCS_AEP(%rax)
	movq	%rcx, THREAD_RECORD_AEP(%rdi)
	movq	%rsi, THREAD_RECORD_LP(%rdi)
	movq	$0, THREAD_RECORD_HOST_RFLAGS(%rdi)
	rdgsbase %rdx
	movq	%rdx, THREAD_RECORD_HOST_GSBASE(%rdi)
	movq	THREAD_RECORD_GPR(%rdi), %rdx
	movq	%rbp, GPRSGX_URBP(%rdx)
	leaq	(ENTER_RED_ZONE + 32)(%rsp), %rax
	movq	%rax, GPRSGX_URSP(%rdx)
	movq	%rax, LOGICAL_PROCESSOR_ENTER_RSP(%rsi)
	movq	THREAD_RECORD_ENTRY(%rdi), %rdx
	movq	%rdx, -8(%rax)			/* in the red zone, which no signal touches */
	leaq	AEP_BYTES(%rcx), %rcx
	.globl	enter_commit
	.hidden	enter_commit
enter_commit:
	movq	%rdi, LOGICAL_PROCESSOR_RECORD(%rsi)	/* commit: inside from here on */
	.globl	enter_fast_begin
	.hidden	enter_fast_begin
enter_fast_begin:
	movb	$1, LOGICAL_PROCESSOR_SELECTOR(%rsi)	/* SYSCALL_DISPATCH_FILTER_BLOCK */
	movq	THREAD_RECORD_FSBASE(%rdi), %rdx	/* the two writes are most of an entry's cost: side by side */
	movq	THREAD_RECORD_GSBASE(%rdi), %rax
	wrfsbase %rdx
	wrgsbase %rax
	popq	%rax
	addb	$0x7f, %al			/* OF */
	sahf
	movl	THREAD_RECORD_CSSA(%rdi), %eax
	popq	%rdi
	popq	%rsi
	popq	%rdx
	leaq	ENTER_RED_ZONE(%rsp), %rsp
	jmp	*-8(%rsp)
	.globl	enter_fast_end
	.hidden	enter_fast_end
enter_fast_end:

	.globl	enter_unlock
	.hidden	enter_unlock
enter_unlock:
.Lunlock:
	movq	$0, TCS_STATE(%rax)
.Lslow_eenter:
	movl	$ENCLU_EENTER, %edi
.Lslow:
	movl	%edi, %esi			/* the leaf, until RAX is free */
	popq	%rax
	addb	$0x7f, %al
	sahf
	movl	%esi, %eax
	popq	%rdi
	popq	%rsi
	popq	%rdx
	/* RSP is ENTER_RED_ZONE below the program's. Lay struct swsgx_registers out under it. */
	pushfq
	leaq	-(SIZEOF_REGISTERS - 8)(%rsp), %rsp
	movq	%r8, REGISTERS_R8(%rsp)
	movq	%r9, REGISTERS_R9(%rsp)
	movq	%r10, REGISTERS_R10(%rsp)
	movq	%r11, REGISTERS_R11(%rsp)
	movq	%r12, REGISTERS_R12(%rsp)
	movq	%r13, REGISTERS_R13(%rsp)
	movq	%r14, REGISTERS_R14(%rsp)
	movq	%r15, REGISTERS_R15(%rsp)
	movq	%rdi, REGISTERS_RDI(%rsp)
	movq	%rsi, REGISTERS_RSI(%rsp)
	movq	%rbp, REGISTERS_RBP(%rsp)
	movq	%rbx, REGISTERS_RBX(%rsp)
	movq	%rdx, REGISTERS_RDX(%rsp)
	movq	%rax, REGISTERS_RAX(%rsp)
	movq	%rcx, REGISTERS_RCX(%rsp)
	movq	%rcx, REGISTERS_RIP(%rsp)
	leaq	(SIZEOF_REGISTERS + ENTER_RED_ZONE)(%rsp), %rax
	movq	%rax, REGISTERS_RSP(%rsp)
	cld
	pushfq					/* nor AC, NT, TF: for C code, IRETQ, and since SIGTRAP is blocked below */
	andl	$~0x44100, (%rsp)		/* the program's flags are in REGISTERS */
	popfq
	movq	%rsp, %rbp
	subq	$32, %rsp			/* two signal masks: all, and the thread's */
	andq	$-16, %rsp
	movq	%rsp, %r13
	movq	$-1, (%r13)
	xorl	%edi, %edi			/* SIG_BLOCK */
	movq	%r13, %rsi
	leaq	8(%r13), %rdx
	movl	$8, %r10d
	movl	$14, %eax			/* rt_sigprocmask */
	syscall
	movq	%rbp, %rdi
	call	enclu_slow
	movq	%rax, %rbx
	testq	%rbx, %rbx
	jz	1f
	movq	THREAD_RECORD_LP(%rbx), %r12
	movq	%rbp, LOGICAL_PROCESSOR_PENDING(%r12)
	movq	%rbx, LOGICAL_PROCESSOR_RECORD(%r12)	/* commit; signals are still blocked */
	.globl	enter_slow_begin
	.hidden	enter_slow_begin
enter_slow_begin:
1:	movl	$2, %edi			/* SIG_SETMASK */
	leaq	8(%r13), %rsi
	xorl	%edx, %edx
	movl	$8, %r10d
	movl	$14, %eax
	syscall
	testq	%rbx, %rbx
	jz	2f
	movq	LOGICAL_PROCESSOR_PENDING_XSTATE(%r12), %rcx
	testq	%rcx, %rcx
	jz	3f
	movq	THREAD_RECORD_HEAD(%rbx), %rax
	movl	ENCLAVE_HEAD_XFRM + 4(%rax), %edx
	movl	ENCLAVE_HEAD_XFRM(%rax), %eax
	xrstor64 (%rcx)
3:	movb	$1, LOGICAL_PROCESSOR_SELECTOR(%r12)
	movq	THREAD_RECORD_FSBASE(%rbx), %rdx
	wrfsbase %rdx
	movq	THREAD_RECORD_GSBASE(%rbx), %rdx
	wrgsbase %rdx
2:	movq	%rbp, %rsp			/* IRETQ's frame under the registers */
	movq	REGISTERS_RSP(%rbp), %rcx
	movl	%ss, %eax
	pushq	%rax
	pushq	%rcx
	pushq	REGISTERS_RFLAGS(%rbp)
	movl	%cs, %eax
	pushq	%rax
	pushq	REGISTERS_RIP(%rbp)
	movq	REGISTERS_R8(%rbp), %r8
	movq	REGISTERS_R9(%rbp), %r9
	movq	REGISTERS_R10(%rbp), %r10
	movq	REGISTERS_R11(%rbp), %r11
	movq	REGISTERS_R12(%rbp), %r12
	movq	REGISTERS_R13(%rbp), %r13
	movq	REGISTERS_R14(%rbp), %r14
	movq	REGISTERS_R15(%rbp), %r15
	movq	REGISTERS_RDI(%rbp), %rdi
	movq	REGISTERS_RSI(%rbp), %rsi
	movq	REGISTERS_RBX(%rbp), %rbx
	movq	REGISTERS_RDX(%rbp), %rdx
	movq	REGISTERS_RAX(%rbp), %rax
	movq	REGISTERS_RCX(%rbp), %rcx
	movq	REGISTERS_RBP(%rbp), %rbp
	iretq
	.globl	enter_slow_end
	.hidden	enter_slow_end
enter_slow_end:
	.size	enclu_entry, . - enclu_entry

/*
 * What an exit site jumps to. Copied into a page near each enclave, followed by its two pointers; RAX (4) and
 * RCX (the AEP after EEXIT) are free, nothing else is, the flags neither.
 */
	.globl	exit_stub_begin
	.hidden	exit_stub_begin
	.p2align 6
exit_stub_begin:
	rdgsbase %rax
	rorx	$12, %rax, %rcx
	movzbl	%cl, %ecx
	movq	.Lexit_table(%rip), %rax
	movq	(%rax,%rcx,8), %rcx		/* the key of this line */
	rdgsbase %rax
	notq	%rax
	leaq	1(%rax,%rcx), %rcx		/* key - GS base */
	jrcxz	1f
	hlt					/* unknown or ambiguous: the handler finds the thread */
1:	rdgsbase %rax
	rorx	$12, %rax, %rcx
	movzbl	%cl, %ecx
	movq	.Lexit_table(%rip), %rax
	movq	(EXIT_KEYS * 8)(%rax,%rcx,8), %rcx	/* ThreadRecord */
	jmp	*.Lexit_common(%rip)
	.p2align 3
.Lexit_table:
	.quad	0
.Lexit_common:
	.quad	0
	.globl	exit_stub_end
	.hidden	exit_stub_end
exit_stub_end:

/* RCX = ThreadRecord of the leaving thread; RBX = where to. */
	.globl	exit_common
	.hidden	exit_common
	.type	exit_common, @function
	.p2align 6
exit_common:
	movq	THREAD_RECORD_HOST_RFLAGS(%rcx), %rax	/* TF, where the program steps through itself */
	xchgq	%rax, %rcx
	jrcxz	1f
	hlt					/* the handler gives it back */
1:	movq	%rax, %rcx
	movq	THREAD_RECORD_HOST_GSBASE(%rcx), %rax
	wrgsbase %rax
	movq	THREAD_RECORD_HOST_FSBASE(%rcx), %rax
	wrfsbase %rax
	movq	THREAD_RECORD_LP(%rcx), %rax
	movb	$0, LOGICAL_PROCESSOR_SELECTOR(%rax)	/* SYSCALL_DISPATCH_FILTER_ALLOW */
	movq	$0, LOGICAL_PROCESSOR_RECORD(%rax)	/* commit: outside from here on */
	.globl	exit_cleared_0
	.hidden	exit_cleared_0
exit_cleared_0:
	movq	THREAD_RECORD_TCS_PAGE(%rcx), %rax
	.globl	exit_cleared_1
	.hidden	exit_cleared_1
exit_cleared_1:
	movq	THREAD_RECORD_AEP(%rcx), %rcx
	.globl	exit_cleared_2
	.hidden	exit_cleared_2
exit_cleared_2:
	movq	$0, TCS_STATE(%rax)
	.globl	exit_released
	.hidden	exit_released
exit_released:
	movl	$ENCLU_EEXIT, %eax
	jmp	*%rbx
	.globl	exit_end
	.hidden	exit_end
exit_end:
	.size	exit_common, . - exit_common

	.globl	signal_return
	.hidden	signal_return
	.type	signal_return, @function
	.p2align 4
signal_return:
	movl	$15, %eax			/* rt_sigreturn */
	syscall
	.size	signal_return, . - signal_return

	.section .note.GNU-stack, "", @progbits
