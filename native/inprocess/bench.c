// SPDX-License-Identifier: Apache-2.0
/*
 * Loops that are too short to be timed from Python: round trips into an enclave, and the null system call they
 * are compared with. Time is taken outside, by Python, around a whole loop.
 */
#include "monitor.h"

#include "sys.h"

/*
 * One call of the vDSO function. After an exception R12 to R15 are synthetic, whatever the enclave keeps to. On the
 * call's own stack, laid out as swsgx_call() does (call.S says why): what stops here can be resumed from there.
 */
static inline int enter(const struct swsgx_enclave_call *call, const struct swsgx_registers *regs)
{
	register uint64_t r8 __asm__("r8") = regs->r8;
	register uint64_t r9 __asm__("r9") = regs->r9;
	uint64_t rdi = regs->rdi, rsi = regs->rsi, rdx = regs->rdx, rcx = call->function;
	int result;

	__asm__ volatile("movq %%rsp, %%rax\n\t"
			 "movq %[stack], %%rsp\n\t"
			 "pushq %%rax\n\t"
			 "subq $16, %%rsp\n\t"
			 "pushq %[run]\n\t"
			 "call swsgx_enter_enclave\n\t"
			 "movq 24(%%rsp), %%rsp"
			 : "=&a"(result), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+c"(rcx), "+r"(r8), "+r"(r9)
			 : [run] "b"(call->run), [stack] "m"(call->stack)
			 : "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
	return result;
}

/* Ends at the first call that does not return 0 after an EEXIT. */
int swsgx_round_trips(struct swsgx_enclave_call *call)
{
	const struct swsgx_registers *regs = (const struct swsgx_registers *)call->registers;
	const struct swsgx_enclave_run *run = (const struct swsgx_enclave_run *)call->run;
	int result = 0;

	for (uint64_t i = 0; i < call->count && !result; i++) {
		result = enter(call, regs);
		if (run->function != ENCLU_EEXIT)
			break;
	}
	return result;
}

void swsgx_null_calls(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		sys_getpid();
}
