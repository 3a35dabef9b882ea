/* SPDX-License-Identifier: Apache-2.0 */
/* A page fault whose cause is taken away: ERESUME does the instruction, as if nothing had been. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	void *data = (void *)in(&e, AT_DATA);
	uint64_t value = 0, *outside;

	poke(&e, AT_DATA, 1);
	WORKS(mprotect(data, PAGE, PROT_READ));
	EXCEPTION(&e, 0, OP_WRITE, data, 2, 0, 14, 7, data);
	CHECK(run.function, ERESUME);
	/* Not mended: the same again. */
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.function, ERESUME);
	CHECK(run.exception_vector, 14);
	CHECK(run.exception_error_code, 7);
	CHECK(run.exception_addr, data);
	WORKS(mprotect(data, PAGE, PROT_READ | PROT_WRITE));
	RESUMES(&e, 0);
	CHECK(peek(&e, AT_DATA), 2);
	WORKS(mprotect(data, PAGE, PROT_NONE));
	EXCEPTION(&e, 0, OP_READ, data, &value, 0, 14, 4, data);
	WORKS(mprotect(data, PAGE, PROT_READ));
	RESUMES(&e, 0);
	CHECK(value, 2);
	WORKS(mprotect((void *)e.base, PAGE, PROT_READ));
	EXCEPTION(&e, 0, OP_NOP, 0, 0, 0, 14, 0x15, e.base);
	CHECK(run.function, ERESUME);
	WORKS(mprotect((void *)e.base, PAGE, PROT_READ | PROT_EXEC));
	RESUMES(&e, 0);
	/* Memory outside. */
	outside = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXCEPTION(&e, 0, OP_WRITE, outside, 7, 0, 14, 6, outside);
	WORKS(mprotect(outside, PAGE, PROT_READ | PROT_WRITE));
	RESUMES(&e, 0);
	CHECK(*outside, 7);
	return success();
}
