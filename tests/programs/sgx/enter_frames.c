/* SPDX-License-Identifier: Apache-2.0 */
/* As many exceptions at once as there are SSA frames; then EENTER is #GP, and ERESUME takes them off one by one. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	uint64_t first = 0, second = 0, cssa = 9;
	char *data = (char *)in(&e, AT_DATA);

	poke(&e, AT_DATA, 10);
	poke(&e, AT_DATA + PAGE, 20);
	WORKS(mprotect(data, 2 * PAGE, PROT_NONE));
	EXCEPTION(&e, 0, OP_READ, data, &first, 0, 14, 4, data);
	CLEAN(&e, 0, OP_CSSA, 0, &cssa, 0);
	CHECK(cssa, 1);
	EXCEPTION(&e, 0, OP_READ, data + PAGE, &second, 0, 14, 4, data + PAGE);
	for (int i = 0; i < 3; i++) {
		EXCEPTION(&e, 0, OP_NOP, 0, 0, 0, 13, 0, 0);
		CHECK(run.function, EENTER);
	}
	WORKS(mprotect(data, PAGE, PROT_READ));
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.function, ERESUME);
	CHECK(run.exception_addr, data + PAGE);
	WORKS(mprotect(data + PAGE, PAGE, PROT_READ));
	RESUMES(&e, 0);
	CHECK(second, 20);
	CHECK(first, 0);
	CLEAN(&e, 0, OP_CSSA, 0, &cssa, 0);
	CHECK(cssa, 1);
	RESUMES(&e, 0);
	CHECK(first, 10);
	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_vector, 13);
	return success();
}
