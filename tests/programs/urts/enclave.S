/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The enclave for a host in the manner of Intel's runtime. tests/make/urts.py puts protocol.h and the prelude of
 * native_enclave.py in front, and gives the places of "data", "constant" and "closed", one page each; behind each of
 * them is a page without memory.
 *
 * Each thread has a page: its counters from GS:0, its stack from the end. At CSSA 0 it serves calls, which can leave by
 * an ocall and be nested in one. At CSSA above 0 it repairs the frame below, by a table of places that fault.
 */
#define STACK 0x00 /* where the next call's stack starts; 0: at the page's end */
#define COUNTER(n) (8 + 8 * (n))
#define SAVED_RSP 0x100 /* of the host, for each CSSA: 32 bytes */
#define SAVED_RBP 0x108
#define SAVED_RETURN 0x110
#define VALID 0x80000000
#define HARDWARE 0x300
#define SOFTWARE 0x600
#define NO_CODE -1
#define MXCSR 24

	.macro	wrong
	lea	.(%rip), %rsi
	jmp	leave_wrong
	.endm

base:
entry:	mov	%eax, %r8d
	shl	$5, %r8d
	mov	%rsp, %gs:SAVED_RSP(%r8)
	mov	%rbp, %gs:SAVED_RBP(%r8)
	mov	%rcx, %gs:SAVED_RETURN(%r8)
	cld
	cmp	$COMMAND_PROBE, %rdi
	je	probe
	test	%eax, %eax
	jnz	exception
	mov	%gs:STACK, %rsp
	test	%rsp, %rsp
	jnz	1f
	rdgsbase %rsp
	add	$0x1000, %rsp
1:	cmp	$COMMAND_CALL, %rdi
	je	call
	cmp	$COMMAND_RETURN, %rdi
	je	return
	cmp	$COMMAND_READ, %rdi
	je	read
	wrong

/* R8: which of the saved registers are the present host's. */
leave_wrong:
	lea	base(%rip), %rdx
	sub	%rdx, %rsi
	mov	$LEFT_WRONG, %edi
	jmp	leave
leave_0:
	xor	%r8d, %r8d
leave:	mov	%gs:SAVED_RSP(%r8), %rsp
	mov	%gs:SAVED_RBP(%r8), %rbp
	mov	%gs:SAVED_RETURN(%r8), %rbx
	xor	%ecx, %ecx
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	eexit_to_rbx

probe:	incq	%gs:COUNTER(COUNTER_PROBES)
	mov	%eax, %esi
	mov	$LEFT_DONE, %edi
	jmp	leave

read:	mov	%rsi, %rdi
	rdgsbase %rsi
	add	$COUNTER(0), %rsi
	mov	$COUNTERS, %ecx
	rep movsq
	mov	$LEFT_DONE, %edi
	jmp	leave_0

/* RAX: a, RCX: b, RDI: a. An operation leaves its value in RAX, and RSP as it was. */
call:	push	%rsi
	incq	%gs:COUNTER(COUNTER_CALLS)
	mov	CALL_OP(%rsi), %r9
	mov	CALL_A(%rsi), %rax
	mov	CALL_B(%rsi), %rcx
	cmp	$OPS, %r9
	jb	1f
	wrong
1:	incq	%gs:COUNTER(COUNTER_OPS)(, %r9, 8)
	mov	%rax, %rdi
	lea	base(%rip), %rdx
	lea	operations(%rip), %r10
	movl	(%r10, %r9, 4), %r10d
	add	%rdx, %r10
	jmp	*%r10
done:	pop	%rsi
	mov	%rax, CALL_RESULT(%rsi)
	mov	%gs:COUNTER(COUNTER_CHECKSUM), %rdx
	rol	$7, %rdx
	xor	%rax, %rdx
	add	$0x5bd1e995, %rdx
	mov	%rdx, %gs:COUNTER(COUNTER_CHECKSUM)
	mov	$LEFT_DONE, %edi
	jmp	leave_0

operations:
	.long	op_add, op_spin, op_ocall, op_divide, op_illegal, op_protection, op_unmapped, op_no_access
	.long	op_absent, op_constant, op_fetch, op_break, op_float, op_deep

/* RSI: function, RDX: argument. Returns its result in RAX; keeps what C functions keep. */
ocall:	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushq	%gs:STACK
	mov	%rsp, %gs:STACK
	mov	$LEFT_OCALL, %edi
	jmp	leave_0
return:	incq	%gs:COUNTER(COUNTER_RETURNS)
	popq	%gs:STACK
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	mov	%rsi, %rax
	ret

op_add:	add	%rcx, %rax
	jmp	done

/* All registers live, for whoever interrupts it. */
op_spin:
	and	$0xfff, %ecx
	mov	%rsp, %rbp
	mov	%rax, %rbx
	mov	%rax, %rdx
	not	%rdx
	mov	$1, %esi
	mov	$2, %edi
	mov	$3, %r8d
	mov	$5, %r9d
	mov	$7, %r10d
	mov	$11, %r11d
	mov	$13, %r12d
	mov	$17, %r13d
	mov	$19, %r14d
	mov	$23, %r15d
	movq	%rbx, %xmm0
	movq	%rdx, %xmm1
	punpcklqdq %xmm1, %xmm0
	pshufd	$0x4e, %xmm0, %xmm15
	jrcxz	2f
1:	rol	$5, %rax
	add	%rcx, %rax
	xor	%rax, %rbx
	add	%rbx, %rdx
	rol	$11, %rdx
	xor	%rdx, %rsi
	add	%rsi, %rdi
	xor	%rdi, %r8
	add	%r8, %r9
	rol	$3, %r9
	xor	%r9, %r10
	add	%r10, %r11
	xor	%r11, %r12
	add	%r12, %r13
	xor	%r13, %r14
	add	%r14, %r15
	paddq	%xmm15, %xmm0
	pxor	%xmm0, %xmm15
	dec	%rcx
	jnz	1b
2:	cmp	%rsp, %rbp
	jne	3f
	xor	%rbx, %rax
	add	%rdx, %rax
	xor	%rsi, %rax
	add	%rdi, %rax
	xor	%r8, %rax
	add	%r9, %rax
	xor	%r10, %rax
	add	%r11, %rax
	xor	%r12, %rax
	add	%r13, %rax
	xor	%r14, %rax
	add	%r15, %rax
	movq	%xmm0, %rdx
	xor	%rdx, %rax
	movq	%xmm15, %rdx
	add	%rdx, %rax
	psrldq	$8, %xmm15
	movq	%xmm15, %rdx
	xor	%rdx, %rax
	jmp	done
3:	xor	%r8d, %r8d
	wrong

op_ocall:
	push	%rcx
	mov	%rax, %rdx
	mov	$OCALL_MIX, %esi
	call	ocall
	pop	%rcx
	add	%rcx, %rax
	jmp	done

op_divide:
	mov	%rcx, %r11
	or	$1, %r11
	xor	%ecx, %ecx
	xor	%edx, %edx
at_divide:
	div	%rcx
	add	%rdx, %rax
	jmp	done

op_illegal:
at_illegal:
	ud2
	jmp	done

op_protection:
	mov	$1, %edx
	shl	$63, %rdx
at_protection:
	mov	(%rdx), %rax
	add	%rcx, %rax
	jmp	done

op_unmapped:
	lea	data + 0x1000 + 0x123(%rip), %rdx
at_unmapped:
	mov	(%rdx), %rax
	add	%rcx, %rax
	jmp	done

op_no_access:
	lea	closed + 0x456(%rip), %rdx
at_no_access:
	mov	(%rdx), %rax
	add	%rcx, %rax
	jmp	done

op_absent:
	lea	constant + 0x1000 + 0x789(%rip), %rdx
at_absent:
	mov	(%rdx), %rax
	add	%rcx, %rax
	jmp	done

op_constant:
	lea	constant + 0xabc(%rip), %rdx
	mov	(%rdx), %rax
at_constant:
	mov	%rax, (%rdx)
	add	%rcx, %rax
	jmp	done

op_fetch:
	lea	data(%rip), %rdx
	call	*%rdx
	add	%rcx, %rax
	jmp	done

op_break:
at_break:
	int3
	add	%rcx, %rax
	jmp	done

op_float:
	shr	$1, %rax
	or	$1, %rax
	pxor	%xmm0, %xmm0
	pxor	%xmm1, %xmm1
	cvtsi2sd %rax, %xmm0
	pushq	$0x1d80
	ldmxcsr	(%rsp)
at_float:
	divsd	%xmm1, %xmm0
	movl	$0x1f80, (%rsp)
	ldmxcsr	(%rsp)
	add	$8, %rsp
	movq	%xmm0, %rdx
	add	%rdx, %rax
	jmp	done

op_deep:
at_deep:
	ud2
	add	%rcx, %rax
	jmp	done

/* Where the thread goes on after op_illegal's repair, as if it had called this. */
second:	incq	%gs:COUNTER(COUNTER_SECOND)
	lea	1(%rax, %rax, 2), %rax
	test	$1, %cl
	jz	1f
	push	%rax
	mov	%rax, %rdx
	mov	$OCALL_MIX, %esi
	call	ocall
	add	(%rsp), %rax
	add	$8, %rsp
1:	ret

/*
 * CSSA above 0, on the host's stack, which is not touched. R9: the interrupted frame's GPRSGX; R10: the line of the
 * table: place, exit information, repair, and the error code of a #PF.
 */
exception:
	cmp	$COMMAND_EXCEPTION, %rdi
	je	1f
	wrong
1:	incq	%gs:COUNTER(COUNTER_EXCEPTIONS)
	mov	%eax, %r9d
	shl	$12, %r9
	lea	0x2000 - SIZEOF_GPRSGX(%rbx, %r9), %r9
	mov	GPRSGX_RIP(%r9), %r11
	lea	base(%rip), %rdx
	sub	%rdx, %r11
	lea	places(%rip), %r10
2:	mov	(%r10), %ecx
	test	%ecx, %ecx
	jz	5f
	cmp	%rcx, %r11
	jne	3f
	mov	4(%r10), %ecx
	cmp	GPRSGX_EXITINFO(%r9), %ecx
	je	4f
3:	add	$16, %r10
	jmp	2b
4:	mov	8(%r10), %ecx
	add	%rdx, %rcx
	jmp	*%rcx
5:	wrong

	.balign	16
places:	.long	at_divide, VALID | HARDWARE | 0, repair_divide, 0
	.long	at_illegal, VALID | HARDWARE | 6, repair_illegal, 0
	.long	at_protection, VALID | HARDWARE | 13, repair_load, NO_CODE
	.long	at_unmapped, VALID | HARDWARE | 14, repair_load, 4
	.long	at_no_access, VALID | HARDWARE | 14, repair_load, 4
	.long	at_absent, VALID | HARDWARE | 14, repair_load, 0x8005
	.long	at_constant, VALID | HARDWARE | 14, repair_load, 6
	.long	data, VALID | HARDWARE | 14, repair_fetch, 0x14
	.long	at_break, VALID | HARDWARE | 6, repair_break, 0
	.long	at_break, VALID | SOFTWARE | 3, repair_break, 0
	.long	at_float, VALID | HARDWARE | 19, repair_float, 0
	.long	at_deep, VALID | HARDWARE | 6, repair_deep, 0
	.long	at_deeper, VALID | HARDWARE | 6, repair_deeper, 0
	.long	0

repair_divide:
	mov	GPRSGX_R11(%r9), %rax
	mov	%rax, GPRSGX_RCX(%r9)
	jmp	repaired

repair_illegal:
	mov	GPRSGX_RSP(%r9), %rcx
	sub	$8, %rcx
	mov	GPRSGX_RIP(%r9), %rax
	add	$2, %rax
	mov	%rax, (%rcx)
	mov	%rcx, GPRSGX_RSP(%r9)
	lea	second(%rip), %rax
	mov	%rax, GPRSGX_RIP(%r9)
	jmp	repaired

/* A load or store of 3 bytes at RDX, all of which the enclave is told. A page that is present may say so in bit 0. */
repair_load:
	mov	12(%r10), %ecx
	cmp	$NO_CODE, %ecx
	jne	1f
	xor	%ecx, %ecx
	xor	%edx, %edx
	jmp	2f
1:	mov	GPRSGX_RDX(%r9), %rdx
2:	cmp	EXINFO_MADDR - SIZEOF_EXINFO(%r9), %rdx
	jne	9f
	mov	EXINFO_ERRCD - SIZEOF_EXINFO(%r9), %eax
	test	$2, %cl
	jz	3f
	and	$-2, %eax
3:	cmp	%ecx, %eax
	jne	9f
	addq	$3, GPRSGX_RIP(%r9)
	jmp	set_result
9:	wrong

repair_fetch:
	lea	data(%rip), %rdx
	cmp	EXINFO_MADDR - SIZEOF_EXINFO(%r9), %rdx
	jne	9b
	mov	EXINFO_ERRCD - SIZEOF_EXINFO(%r9), %eax
	and	$-2, %eax
	cmp	12(%r10), %eax
	jne	9b
	mov	GPRSGX_RSP(%r9), %rcx
	mov	(%rcx), %rax
	mov	%rax, GPRSGX_RIP(%r9)
	addq	$8, GPRSGX_RSP(%r9)
	jmp	set_result

repair_break:
	addq	$1, GPRSGX_RIP(%r9)
	jmp	set_result

repair_float:
	orl	$0x200, MXCSR + SIZEOF_GPRSGX - 0x1000(%r9)
	jmp	repaired

repair_deep:
	xor	%r15d, %r15d
at_deeper:
	ud2
	cmp	$0x77, %r15d
	jne	9b
	addq	$2, GPRSGX_RIP(%r9)
	jmp	set_result
repair_deeper:
	movq	$0x77, GPRSGX_R15(%r9)
	addq	$2, GPRSGX_RIP(%r9)
	jmp	repaired

set_result:
	mov	GPRSGX_RDI(%r9), %rax
	lea	3(%rax, %rax, 4), %rax
	mov	%rax, GPRSGX_RAX(%r9)
repaired:
	mov	$LEFT_DONE, %edi
	jmp	leave
