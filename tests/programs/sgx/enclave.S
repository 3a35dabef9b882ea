/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The enclave of the small programs: ops.h says what it does. Behind the prelude of tests/make/native_enclave.py, and
 * with its layout: the SSA is two pages behind the TCS, GS is this thread's page.
 */
#define GPR_AREA (0x2000 + 0x1000 - 184)

	.macro	pattern register number
	movabs	$(0x0111111111111111 * \number), \register
	.endm
	.macro	same register number
	movabs	$(0x0111111111111111 * \number), %rax
	cmp	%rax, \register
	jne	2f
	.endm

entry:
	cmp	$OP_COUNT, %rdi
	jae	leave
	lea	operations(%rip), %r10
	movslq	(%r10, %rdi, 4), %r11
	add	%r10, %r11
	jmp	*%r11
	.balign	4
operations:
	.long	leave - operations, op_add - operations, op_read - operations, op_write - operations
	.long	op_ud2 - operations, op_divide - operations, op_halt - operations, op_int3 - operations
	.long	op_syscall - operations, op_jump - operations, op_spin - operations, op_registers - operations
	.long	op_frame_get - operations, op_frame_add - operations, op_cssa - operations, op_simd - operations
	.long	op_exit_to - operations, op_enclu - operations, op_push - operations, op_step - operations
	.long	op_leaf - operations, op_grow - operations
	.long	op_sweep - operations

leave:
	eexit
	ud2
op_add:
	add	%rdx, %rsi
	mov	%rsi, (%r8)
	jmp	leave
op_read:
	mov	(%rsi), %rax
	mov	%rax, (%rdx)
	jmp	leave
op_write:
	mov	%rdx, (%rsi)
	jmp	leave
op_ud2:
	ud2
	jmp	leave
op_divide:
	xor	%edx, %edx
	mov	$1, %eax
	xor	%r10d, %r10d
	div	%r10d
	jmp	leave
op_halt:
	hlt
	jmp	leave
op_int3:
	int3
	jmp	leave
op_syscall:
	mov	%rcx, %rdx
	mov	$39, %eax
	syscall
	mov	%rdx, %rcx
	jmp	leave
op_jump:
	jmp	*%rsi
op_spin:
	movl	$1, (%rdx)
1:	pause
	cmpl	$0, (%rsi)
	je	1b
	incq	(%r8)
	jmp	leave
op_step:
	incq	(%rdx)
	cmpl	$0, (%rsi)
	je	op_step
	jmp	leave
op_frame_get:
	mov	GPR_AREA(%rbx, %rsi), %rax
	mov	%rax, (%rdx)
	jmp	leave
op_frame_add:
	add	%rdx, GPR_AREA(%rbx, %rsi)
	jmp	leave
op_cssa:
	mov	%rax, (%rdx)
	jmp	leave
op_simd:
	movl	$0x1f80 & ~0x1f80, %gs:0
	ldmxcsr	%gs:0
	pxor	%xmm1, %xmm1
	movl	$0x3f800000, %gs:0
	movss	%gs:0, %xmm0
	divss	%xmm1, %xmm0
	movl	$0x1f80, %gs:0
	ldmxcsr	%gs:0
	jmp	leave
op_exit_to:
	mov	%rsi, %rbx
	eexit_to_rbx
	ud2
op_enclu:
	mov	%rsi, %rax
	enclu
	jmp	leave
	/* This thread's page has a SECINFO at its middle, with these flags; RBX is its address. */
	.macro	secinfo flags
	rdgsbase %rbx
	add	$0x800, %rbx
	.set	at, 8
	.rept	7
	movq	$0, at(%rbx)
	.set	at, at + 8
	.endr
	mov	\flags, (%rbx)
	.endm
op_leaf:
	mov	%rcx, %r10
	mov	LEAF_FLAGS(%rsi), %rax
	secinfo	%rax
	mov	LEAF_SECINFO(%rsi), %rax
	test	%rax, %rax
	cmovnz	%rax, %rbx
	mov	%rdx, %rax
	mov	LEAF_PAGE(%rsi), %rcx
	mov	LEAF_SOURCE(%rsi), %rdx
	pushq	$0x8d5
	popfq
	enclu
	pushfq
	popq	LEAF_RFLAGS(%rsi)
	mov	%rax, LEAF_RAX(%rsi)
	mov	%r10, %rcx
	jmp	leave
op_grow:
	mov	%rcx, %r10
	mov	$0x20b, %eax			/* REG, R, W, PENDING */
	secinfo	%rax
	mov	%rsi, %rcx
	movq	$0, (%r8)
1:	mov	$5, %eax
	enclu
	test	%eax, %eax
	jz	2f
	incq	(%r8)
2:	add	$0x1000, %rcx
	dec	%rdx
	jnz	1b
	mov	%r10, %rcx
	jmp	leave
op_sweep:
	incq	(%rsi)
	add	$0x1000, %rsi
	dec	%rdx
	jnz	op_sweep
	jmp	leave
op_push:
	push	%rsi
	push	%rsi
	jmp	leave
op_registers:
	mov	%rcx, %gs:0
	mov	%rsp, %gs:8
	mov	%rbp, %gs:16
	mov	%rbx, %gs:24
	mov	%r12, %gs:32
	mov	%r13, %gs:40
	mov	%r14, %gs:48
	mov	%r15, %gs:56
	mov	%rsi, %gs:64
	mov	%r8, %gs:72
	mov	%rdx, %rax
	pattern	%rcx, 16
	movq	%rcx, %xmm0
	pattern	%rcx, 17
	movq	%rcx, %xmm15
	pattern	%rcx, 1
	pattern	%rdx, 2
	pattern	%rbx, 3
	pattern	%rsp, 4
	pattern	%rbp, 5
	pattern	%rsi, 6
	pattern	%rdi, 7
	pattern	%r8, 8
	pattern	%r9, 9
	pattern	%r10, 10
	pattern	%r11, 11
	pattern	%r12, 12
	pattern	%r13, 13
	pattern	%r14, 14
	pattern	%r15, 15
	movl	$1, (%rax)
1:	pause
	mov	%gs:64, %rax
	cmpl	$0, (%rax)
	je	1b
	same	%rcx, 1
	same	%rdx, 2
	same	%rbx, 3
	same	%rsp, 4
	same	%rbp, 5
	same	%rsi, 6
	same	%rdi, 7
	same	%r8, 8
	same	%r9, 9
	same	%r10, 10
	same	%r11, 11
	same	%r12, 12
	same	%r13, 13
	same	%r14, 14
	same	%r15, 15
	movq	%xmm0, %rcx
	same	%rcx, 16
	movq	%xmm15, %rcx
	same	%rcx, 17
	mov	%gs:72, %rax
	movq	$1, (%rax)
	jmp	3f
2:	mov	%gs:72, %rax
	movq	$2, (%rax)
3:	mov	%gs:0, %rcx
	mov	%gs:8, %rsp
	mov	%gs:16, %rbp
	mov	%gs:24, %rbx
	mov	%gs:32, %r12
	mov	%gs:40, %r13
	mov	%gs:48, %r14
	mov	%gs:56, %r15
	jmp	leave
