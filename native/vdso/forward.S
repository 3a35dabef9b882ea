/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of the host's vDSO under the kernel's names: one jump each. vdso_prepare fills the slots before the
 * program's first instruction. Linked into the target image only: elsewhere these names would be taken for libc's.
 */
#include "forward.h"

	.text
	.macro	forward name, index
	.globl	__vdso_\name
	.type	__vdso_\name, @function
	.p2align 4
__vdso_\name:
	.cfi_startproc
	jmp	*vdso_slots + 8 * \index(%rip)
	.cfi_endproc
	.size	__vdso_\name, . - __vdso_\name
	.weak	\name
	.type	\name, @function
	.set	\name, __vdso_\name
	.size	\name, . - __vdso_\name
	.endm

	forward	gettimeofday, FORWARD_GETTIMEOFDAY
	forward	time, FORWARD_TIME
	forward	clock_gettime, FORWARD_CLOCK_GETTIME
	forward	clock_getres, FORWARD_CLOCK_GETRES
	forward	getcpu, FORWARD_GETCPU
	forward	getrandom, FORWARD_GETRANDOM

	.section .note.GNU-stack, "", @progbits
