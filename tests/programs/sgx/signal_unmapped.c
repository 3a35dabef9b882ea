/* SPDX-License-Identifier: Apache-2.0 */
/* A page of the enclave that is not mapped: SEGV_MAPERR; the handler maps it, and the enclave goes on. */
#include "sgx.h"

static struct enclave e;

static void map(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	WORKS(map_at(&e, seen.address - e.base, PAGE, PROT_READ));
}

int main(void)
{
	uint64_t value = 0;

	e = loaded();
	handle(SIGSEGV, map, 0);
	WORKS(munmap((void *)in(&e, AT_CONSTANT), PAGE));
	CHECK(RAW(&e, 0, OP_READ, in(&e, AT_CONSTANT), &value, 0), EEXIT);
	CHECK(value, 0x0706050403020100);
	CHECK(seen.count, 1);
	CHECK(seen.code, SEGV_MAPERR);
	CHECK(seen.address, in(&e, AT_CONSTANT));
	CHECK(seen.error, 4);
	CHECK(seen.rip, raw_enclu);
	CHECK(seen.rax, ERESUME);
	return success();
}
