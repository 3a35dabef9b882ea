/* SPDX-License-Identifier: Apache-2.0 */
/* A program that touches its enclave from outside against the mapping's protection gets the signal of any mapping. */
#include "sgx.h"

static sigjmp_buf back;

static void fault(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	siglongjmp(back, 1);
}

static void read_at(uint64_t address)
{
	*(volatile char *)address;
}

static void write_at(uint64_t address)
{
	*(volatile char *)address = 1;
}

static void call_at(uint64_t address)
{
	((void (*)(void))address)();
}

static void faults(void (*touch)(uint64_t), uint64_t address, int number, int code)
{
	seen.number = 0;
	if (!sigsetjmp(back, 1)) {
		touch(address);
		CHECK(0, number);
	}
	CHECK(seen.number, number);
	CHECK(seen.code, code);
	CHECK(seen.address, address);
}

int main(void)
{
	struct enclave e = loaded();
	uint64_t data = in(&e, AT_DATA), constant = in(&e, AT_CONSTANT);

	handle(SIGSEGV, fault, 0);
	handle(SIGBUS, fault, 0);
	faults(write_at, constant + 9, SIGSEGV, SEGV_ACCERR);
	faults(write_at, e.base + 3, SIGSEGV, SEGV_ACCERR);
	faults(call_at, data, SIGSEGV, SEGV_ACCERR);
	WORKS(mprotect((void *)data, PAGE, PROT_NONE));
	faults(read_at, data + 100, SIGSEGV, SEGV_ACCERR);
	faults(write_at, data, SIGSEGV, SEGV_ACCERR);
	WORKS(munmap((void *)data, PAGE));
	faults(read_at, data, SIGSEGV, SEGV_MAPERR);
	faults(write_at, data + 1, SIGSEGV, SEGV_MAPERR);
	CHECK(peek(&e, AT_CONSTANT), 0x0706050403020100);
	return success();
}
