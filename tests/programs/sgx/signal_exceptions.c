/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions inside that are no page faults, by a program's own ENCLU: which signal, code and address. */
#include "sgx.h"

static struct enclave e;
static uint64_t bytes;

/* Steps over the instruction, by entering the same TCS again. */
static void step(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	CHECK(RAW(&e, 0, OP_FRAME_ADD, FRAME_RIP, bytes, 0), EEXIT);
}

static void saw(uint64_t op, uint64_t a, uint64_t size, int number, int code, uint64_t address, uint64_t trapno)
{
	bytes = size;
	seen.count = 0;
	CHECK(RAW(&e, 0, op, a, &bytes, 0), EEXIT);
	CHECK(seen.count, 1);
	CHECK(seen.number, number);
	CHECK(seen.code, code);
	CHECK(seen.address, address);
	CHECK(seen.trapno, trapno);
	CHECK(seen.error, 0);
	CHECK(seen.rip, raw_enclu);
	CHECK(seen.rax, ERESUME);
	CHECK(seen.rbx, tcs_of(&e, 0));
}

int main(void)
{
	static const int numbers[] = { SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP };

	e = loaded();
	for (int i = 0; i < 5; i++)
		handle(numbers[i], step, 0);
	saw(OP_UD2, 0, 2, SIGILL, ILL_ILLOPN, (uintptr_t)raw_enclu, 6);
	saw(OP_DIVIDE, 0, 3, SIGFPE, FPE_INTDIV, (uintptr_t)raw_enclu, 0);
	saw(OP_HALT, 0, 1, SIGSEGV, SI_KERNEL, 0, 13);
	saw(OP_READ, 1ul << 63, 3, SIGSEGV, SI_KERNEL, 0, 13);
	saw(OP_INT3, 0, 1, SIGILL, ILL_ILLOPN, (uintptr_t)raw_enclu, 6);
	saw(OP_SYSCALL, 0, 2, SIGILL, ILL_ILLOPN, (uintptr_t)raw_enclu, 6);
	saw(OP_ENCLU, EENTER, 3, SIGSEGV, SI_KERNEL, 0, 13);
	return success();
}
