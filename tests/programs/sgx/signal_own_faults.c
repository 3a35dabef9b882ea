/* SPDX-License-Identifier: Apache-2.0 */
/* A program that lives by its own faults, as collectors of garbage do: before it uses an enclave, and after. */
#include "sgx.h"

static char *memory;

static void commit(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	WORKS(mprotect((void *)(seen.address & -PAGE), PAGE, PROT_READ | PROT_WRITE));
}

static void step_over(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static void faults(int pages)
{
	memory = mmap(NULL, (size_t)pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	seen.count = 0;
	for (int i = 0; i < pages; i++) {
		memory[(size_t)i * PAGE + 5] = (char)i;
		CHECK(seen.count, i + 1);
		CHECK(seen.code, SEGV_ACCERR);
		CHECK(seen.address, memory + (size_t)i * PAGE + 5);
		CHECK(seen.trapno, 14);
		CHECK(seen.error, 6);
	}
	__asm__ volatile("ud2");
	CHECK(seen.number, SIGILL);
	CHECK(seen.count, pages + 1);
	CHECK(seen.code, ILL_ILLOPN);
	CHECK(seen.rip, seen.address);
	WORKS(munmap(memory, (size_t)pages * PAGE));
}

int main(void)
{
	struct enclave e;

	handle(SIGSEGV, commit, 0);
	handle(SIGILL, step_over, 0);
	faults(100);
	e = loaded();
	faults(100);
	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	faults(100);
	CHECK(RAW(&e, 0, OP_NOP, 0, 0, 0), EEXIT);
	faults(100);
	return success();
}
