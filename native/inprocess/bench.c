// SPDX-License-Identifier: Apache-2.0
/*
 * Loops that are too short to be timed from Python: round trips into an enclave, and the null system call they
 * are compared with. Time is taken outside, by Python, around a whole loop.
 */
#include "monitor.h"

#include "sys.h"

int swsgx_round_trips(struct swsgx_enclave_call *call)
{
	struct swsgx_registers *regs = (struct swsgx_registers *)call->registers;
	int result = 0;

	for (uint64_t i = 0; i < call->count && !result; i++)
		result = swsgx_enter_enclave(regs->rdi, regs->rsi, regs->rdx, call->function, regs->r8, regs->r9,
					     (struct swsgx_enclave_run *)call->run);
	return result;
}

void swsgx_null_calls(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		sys_getpid();
}
