/* SPDX-License-Identifier: Apache-2.0 */
/* The enclave of paging_storm.c, behind the prelude of tests/make/native_enclave.py: it looks at pages and fills them. */
	/* R8 is the page, R10 how many words, R14 what is added, R9 is 0. */
	.macro	words
	mov	ASK_PAGE(%rdi), %r8
	mov	$512, %r10d
	xor	%r9d, %r9d
	xor	%r14d, %r14d
	movabs	$PLUS, %r11
	test	%rdx, %rdx
	cmovnz	%r11, %r14
	.endm

entry:
	movabs	$TIMES, %r13
	test	%rsi, %rsi
	jz	leave
next:
	mov	ASK_FLAGS(%rdi), %rax
	test	%rax, %rax
	jnz	accept
	mov	ASK_BEFORE(%rdi), %rdx
	words
1:	imul	%r13, %rdx
	add	%r14, %rdx
	cmp	%rdx, (%r8)
	je	2f
	inc	%r9
2:	add	$8, %r8
	dec	%r10
	jnz	1b
	mov	%r9, ASK_WRONG(%rdi)
	mov	ASK_AFTER(%rdi), %rdx
	test	%rdx, %rdx
	jz	done
	words
1:	imul	%r13, %rdx
	add	%r14, %rdx
	mov	%rdx, (%r8)
	add	$8, %r8
	dec	%r10
	jnz	1b
done:
	add	$ASK_SIZE, %rdi
	dec	%rsi
	jnz	next
leave:
	eexit
	ud2

accept:
	mov	%rcx, %r12
	rdgsbase %rbx
	add	$0x800, %rbx
	.set	at, 8
	.rept	7
	movq	$0, at(%rbx)
	.set	at, at + 8
	.endr
	mov	%rax, (%rbx)
	mov	ASK_PAGE(%rdi), %rcx
	mov	$5, %eax
	enclu
	mov	%rax, ASK_WRONG(%rdi)
	mov	%r12, %rcx
	jmp	done
