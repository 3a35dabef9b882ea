/* SPDX-License-Identifier: Apache-2.0 */
/* A page fault inside, by a program's own ENCLU: SIGSEGV at the AEP, ready to resume; the handler mends, and it goes on. */
#include "sgx.h"

static struct enclave e;
static int prot;

static void mend(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	WORKS(mprotect((void *)(seen.address & -PAGE), PAGE, prot));
}

static void saw(uint64_t address, int code, int error, int thread)
{
	CHECK(seen.count, 1);
	CHECK(seen.number, SIGSEGV);
	CHECK(seen.code, code);
	CHECK(seen.address, address);
	CHECK(seen.cr2, address);
	CHECK(seen.trapno, 14);
	CHECK(seen.error, error);
	CHECK(seen.rip, raw_enclu);
	CHECK(seen.rax, ERESUME);
	CHECK(seen.rbx, tcs_of(&e, thread));
	CHECK(seen.rcx, raw_enclu);
	CHECK(seen.r8, 0);
	CHECK(seen.r15, 0);
	seen.count = 0;
}

int main(void)
{
	uint64_t value = 0, *outside = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	e = loaded();
	handle(SIGSEGV, mend, 0);
	WORKS(mprotect((void *)in(&e, AT_DATA), PAGE, PROT_NONE));
	prot = PROT_READ;
	CHECK(RAW(&e, 0, OP_READ, in(&e, AT_DATA) + 8, &value, 0), EEXIT);
	saw(in(&e, AT_DATA), SEGV_ACCERR, 4, 0);
	prot = PROT_READ | PROT_WRITE;
	CHECK(RAW(&e, 3, OP_WRITE, in(&e, AT_DATA) + 8, 7, 0), EEXIT);
	saw(in(&e, AT_DATA), SEGV_ACCERR, 7, 3);
	CHECK(RAW(&e, 0, OP_READ, in(&e, AT_DATA) + 8, &value, 0), EEXIT);
	CHECK(value, 7);
	CHECK(RAW(&e, 0, OP_WRITE, outside, 9, 0), EEXIT);
	saw((uintptr_t)outside, SEGV_ACCERR, 6, 0);
	CHECK(*outside, 9);
	CHECK(seen.count, 0);
	return success();
}
