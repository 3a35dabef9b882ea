/* SPDX-License-Identifier: Apache-2.0 */
/* A handler that goes on elsewhere than at the AEP leaves the enclave where it is; ERESUME continues it later. */
#include "sgx.h"

static struct enclave e;

static void leave(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	abandon(context);
}

int main(void)
{
	uint64_t value = 0;

	e = loaded();
	handle(SIGSEGV, leave, 0);
	WORKS(mprotect((void *)in(&e, AT_CONSTANT), PAGE, PROT_NONE));
	for (int i = 1; i < 20; i++) {
		CHECK(RAW(&e, 0, OP_READ, in(&e, AT_CONSTANT), &value, 0), 0);
		CHECK(raw_call(0, 0, 0, ERESUME, 0, 0, tcs_of(&e, 0)), 0);
		CHECK(seen.count, 2 * i);
		CHECK(value, 0);
		WORKS(mprotect((void *)in(&e, AT_CONSTANT), PAGE, PROT_READ));
		CHECK(raw_call(0, 0, 0, ERESUME, 0, 0, tcs_of(&e, 0)), EEXIT);
		CHECK(value, 0x0706050403020100);
		value = 0;
		WORKS(mprotect((void *)in(&e, AT_CONSTANT), PAGE, PROT_NONE));
	}
	return success();
}
