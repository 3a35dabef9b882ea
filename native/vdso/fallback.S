/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a slot holds when the host's vDSO lacks the function: the plain system call, which has the same arguments and
 * the same result. There is none for getrandom, whose state is the caller's: -ENOSYS makes libc do without.
 */
#include <asm/unistd.h>

#define MINUS_ENOSYS -38

	.text
	.macro	begin name
	.globl	vdso_fallback_\name
	.hidden	vdso_fallback_\name
	.type	vdso_fallback_\name, @function
vdso_fallback_\name:
	.cfi_startproc
	.endm

	.macro	end name
	ret
	.cfi_endproc
	.size	vdso_fallback_\name, . - vdso_fallback_\name
	.endm

	.macro	call_kernel name, number
	begin	\name
	movl	$\number, %eax
	syscall
	end	\name
	.endm

	call_kernel gettimeofday, __NR_gettimeofday
	call_kernel time, __NR_time
	call_kernel clock_gettime, __NR_clock_gettime
	call_kernel clock_getres, __NR_clock_getres
	call_kernel getcpu, __NR_getcpu
	begin	getrandom
	movq	$MINUS_ENOSYS, %rax
	end	getrandom

	.section .note.GNU-stack, "", @progbits
