/* SPDX-License-Identifier: Apache-2.0 */
/* EENTER and ERESUME that fail themselves: the function that was asked for stays, and the vector says why. */
#include "sgx.h"

static int at(uint64_t tcs, unsigned int function)
{
	find_vdso();
	memset(&run, 0, sizeof(run));
	run.tcs = tcs;
	CHECK(vdso_call(OP_NOP, 0, 0, function, 0, 0, &run), 0);
	CHECK(run.function, function);
	if (run.exception_vector == 13) {
		CHECK(run.exception_error_code, 0);
		CHECK(run.exception_addr, 0);
	} else {
		CHECK(run.exception_addr, tcs);
	}
	return run.exception_vector;
}

int main(void)
{
	struct enclave e = loaded(), early = built(0);
	static unsigned char page[PAGE] __attribute__((aligned(PAGE)));

	for (int function = EENTER; function <= ERESUME; function++) {
		CHECK(at(tcs_of(&e, 0) + 1, function), 13);
		CHECK(at(tcs_of(&e, 0) + 0x800, function), 13);
		CHECK(at(0, function), 14);
		CHECK(at(in(&e, AT_DATA_END), function), 14);
		CHECK(at((uintptr_t)page, function), 14);
		/* Mapped, an enclave's, but no TCS. */
		CHECK(at(in(&e, AT_DATA), function), 14);
		CHECK(run.exception_error_code & 0x8001, 0x8001);
		/* Mapped, but unmapped. */
		WORKS(mprotect((void *)tcs_of(&e, 1), PAGE, PROT_NONE));
		CHECK(at(tcs_of(&e, 1), function), 14);
		CHECK(run.exception_error_code & 0x8001, 0);
	}
	/* Nothing to resume. */
	CHECK(at(tcs_of(&e, 0), ERESUME), 13);
	/* Not initialised. */
	map_all(&early);
	CHECK(at(tcs_of(&early, 0), EENTER), 13);
	WORKS(sgx_init(early.fd, enclave_sigstruct));
	CLEAN(&early, 0, OP_NOP, 0, 0, 0);
	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	return success();
}
