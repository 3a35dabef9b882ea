/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves that fault, and pages that wait, by a program's own ENCLU: the signals, and what goes on when they are mended. */
#include "sgx.h"

static struct enclave e;
static struct leaf leaf;

static void mend(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	if (seen.code == SEGV_MAPERR)
		CHECK(map_at(&e, AT_HOLES, 3 * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	else if (seen.error == 0x8007)
		CHECK(ACCEPT(&e, 1, seen.address - e.base, SECINFO_RW | SECINFO_PENDING), 0);
	else
		abandon(context);
}

static void saw(int code, int trap, int error, uint64_t address)
{
	CHECK(seen.count, 1);
	CHECK(seen.number, SIGSEGV);
	CHECK(seen.code, code);
	CHECK(seen.trapno, trap);
	CHECK(seen.error, error);
	CHECK(seen.address, address);
	CHECK(seen.rip, raw_enclu);
	CHECK(seen.rax, ERESUME);
	seen.count = 0;
}

int main(void)
{
	e = loaded();
	find_vdso();
	handle(SIGSEGV, mend, 0);
	leaf.flags = SECINFO_RW | SECINFO_PENDING;
	leaf.page = in(&e, AT_HOLES);
	CHECK(RAW(&e, 0, OP_LEAF, &leaf, EACCEPT, 0), EEXIT);
	saw(SEGV_MAPERR, 14, 0x4, in(&e, AT_HOLES));
	CHECK(leaf.rax, 0);
	CHECK(RAW(&e, 0, OP_WRITE, in(&e, AT_HOLES) + PAGE + 8, 7, 0), EEXIT);
	saw(SEGV_ACCERR, 14, 0x8007, in(&e, AT_HOLES) + PAGE);
	CHECK(peek(&e, AT_HOLES + PAGE + 8), 7);
	leaf.secinfo = tcs_of(&e, 2);
	CHECK(RAW(&e, 2, OP_LEAF, &leaf, EACCEPT, 0), 0);
	saw(SEGV_ACCERR, 14, 0x8005, tcs_of(&e, 2));
	leaf.secinfo = 8;
	CHECK(RAW(&e, 3, OP_LEAF, &leaf, EACCEPT, 0), 0);
	saw(SI_KERNEL, 13, 0, 0);
	CHECK(leaf.rax, 0);
	return success();
}
