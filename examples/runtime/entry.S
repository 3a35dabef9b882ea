/* Entry and exit of an enclave: from untrusted registers to a C function on the enclave's stack, and back.
 *
 * At entry (EENTER): RAX = CSSA, RBX = TCS, RCX = where EEXIT must go, RSP and RBP are the host's and are
 * not used as memory, RDI RSI RDX R8 R9 are arguments, GS = this thread's page. Flags and MXCSR are the host's.
 *
 * CSSA 0 is a call: it runs on an empty stack. CSSA > 0 means that code of this thread was interrupted:
 * the exception handler runs below the interrupted frame, and only if RSP was on this thread's stack.
 */
#include "swsgx_enclave.h"

#define RFLAGS_AC 0x40000
#define ENCLU .byte 0x0f, 0x01, 0xd7

	.text
	.globl enclave_entry
	.hidden enclave_entry
	.type enclave_entry, @function
enclave_entry:
	cld
	lea enclave_base(%rip), %r10
	test %rax, %rax
	jnz .Lexception

	/* Both calls and exceptions push: return address, host RSP, host RBP, host MXCSR. */
	mov %rsp, %r11
	mov %gs:THREAD_STACK_TOP, %rsp
	add %r10, %rsp
	push %rcx
	push %r11
	push %rbp
	sub $8, %rsp
	stmxcsr (%rsp)
	call clean_state

	/* C wants RDI RSI RDX RCX R8. */
	mov %r8, %rcx
	mov %r9, %r8
	call enclave_call

.Lleave:
	mov %rax, %rdi
	mov %rdx, %rsi
.Lleave_with_status:
	ldmxcsr (%rsp)
	add $8, %rsp
	pop %rbp
	pop %r11
	pop %rbx
	mov %r11, %rsp
	/* Nothing of the enclave stays in a register. R12..R15 hold what the host left in them (C restored them). */
	pxor %xmm0, %xmm0
	pxor %xmm1, %xmm1
	pxor %xmm2, %xmm2
	pxor %xmm3, %xmm3
	pxor %xmm4, %xmm4
	pxor %xmm5, %xmm5
	pxor %xmm6, %xmm6
	pxor %xmm7, %xmm7
	pxor %xmm8, %xmm8
	pxor %xmm9, %xmm9
	pxor %xmm10, %xmm10
	pxor %xmm11, %xmm11
	pxor %xmm12, %xmm12
	pxor %xmm13, %xmm13
	pxor %xmm14, %xmm14
	pxor %xmm15, %xmm15
	xor %edx, %edx
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	/* One aligned word of 8 bytes: whoever replaces the 5 bytes of `mov` can do so in one store. */
	.balign 8
	.globl enclave_exit_site
	.hidden enclave_exit_site
enclave_exit_site:
	mov $4, %eax
	ENCLU
	ud2

.Lexception:
	/* R9 = end of the interrupted SSA frame, CSSA - 1; R8 = its RSP less the red zone, if it is ours. */
	mov %gs:THREAD_SSA_FRAME, %r9
	imul %rax, %r9
	add %gs:THREAD_SSA, %r9
	add %r10, %r9
	mov SSA_GPR_RSP - SSA_GPR_SIZE(%r9), %r8
	mov %gs:THREAD_STACK_BOTTOM, %rax
	lea 1024(%r10, %rax), %rax
	cmp %rax, %r8
	jb .Lforeign_stack
	mov %gs:THREAD_STACK_TOP, %rax
	add %r10, %rax
	cmp %rax, %r8
	ja .Lforeign_stack
	mov %rsp, %r11
	lea -128(%r8), %rsp
	and $-16, %rsp
	push %rcx
	push %r11
	push %rbp
	sub $8, %rsp
	stmxcsr (%rsp)
	call clean_state

	lea -SSA_GPR_SIZE(%r9), %rdi
	lea -SSA_GPR_SIZE - 16(%r9), %rsi
	call enclave_exception
	jmp .Lleave

.Lforeign_stack:
	/* No stack to work on, and nothing secret in a register yet but two addresses. */
	mov $5, %edi			/* ENCLAVE_BAD_STACK */
	xor %esi, %esi
	mov %rcx, %rbx
	xor %edx, %edx
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	.balign 8
	mov $4, %eax
	ENCLU
	ud2
	.size enclave_entry, . - enclave_entry

/* Flags and MXCSR as C expects them, whatever the host left: no AC, all SSE exceptions masked. Keeps registers. */
	.type clean_state, @function
clean_state:
	pushfq
	andl $~RFLAGS_AC, (%rsp)
	popfq
	ldmxcsr default_mxcsr(%rip)
	xor %ebp, %ebp
	ret
	.size clean_state, . - clean_state

	.section .rodata
	.balign 4
default_mxcsr:
	.long 0x1f80

	.section .note.GNU-stack, "", @progbits
