/* SPDX-License-Identifier: Apache-2.0 */
/* ENCLU that fails outside is a signal at the instruction, with the registers as they were. */
#include "sgx.h"

static void refused(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	abandon(context);
}

/* The signal's code; -1: none. */
static int leaf(unsigned int eax, uint64_t tcs)
{
	seen.count = 0;
	if (raw_call(OP_NOP, 2, 3, eax, 4, 5, tcs))
		return -1;
	CHECK(seen.count, 1);
	CHECK(seen.number, SIGSEGV);
	CHECK(seen.rip, raw_enclu);
	CHECK(seen.rax, eax);
	CHECK(seen.rbx, tcs);
	CHECK(seen.rcx, raw_enclu);
	CHECK(seen.r8, 4);
	return seen.code;
}

int main(void)
{
	static const unsigned int inside[] = { 0, 1, 4, 5, 6, 7, 9, 10, 99, 0x80000000 };
	struct enclave e = loaded();

	handle(SIGSEGV, refused, 0);
	for (size_t i = 0; i < sizeof(inside) / sizeof(*inside); i++) {
		CHECK(leaf(inside[i], tcs_of(&e, 0)), SI_KERNEL);
		CHECK(seen.address, 0);
		CHECK(seen.trapno, 13);
		CHECK(seen.error, 0);
	}
	CHECK(leaf(EENTER, tcs_of(&e, 0) + 8), SI_KERNEL);
	CHECK(seen.trapno, 13);
	CHECK(leaf(ERESUME, tcs_of(&e, 0)), SI_KERNEL);
	CHECK(leaf(EENTER, in(&e, AT_DATA)), SEGV_ACCERR);
	CHECK(seen.address, in(&e, AT_DATA));
	CHECK(seen.trapno, 14);
	CHECK(seen.error & 0x8005, 0x8005);
	WORKS(munmap((void *)tcs_of(&e, 1), PAGE));
	CHECK(leaf(EENTER, tcs_of(&e, 1)), SEGV_MAPERR);
	CHECK(seen.address, tcs_of(&e, 1));
	CHECK(leaf(EENTER, tcs_of(&e, 0)), -1);
	return success();
}
