/* SPDX-License-Identifier: Apache-2.0 */
/* A page becomes a TCS: by it the enclave is entered when it has accepted that, and no more when it is trimmed. */
#include "sgx.h"

#define TCS AT_HOLES
#define TCS_WORDS 9

static struct enclave e;

/* A call by the new TCS, at the bottom of main. */
static int by_new(uint64_t op, uint64_t a, uint64_t b, uint64_t c)
{
	run.tcs = in(&e, TCS);
	return vdso_call(op, a, b, EENTER, c, 0, &run);
}

static void refused(void)
{
	CHECK(by_new(OP_NOP, 0, 0, 0), 0);
	CHECK(run.function, EENTER);
	CHECK(run.exception_vector, 14);
	CHECK(run.exception_error_code, 0x8007);
	CHECK(run.exception_addr, in(&e, TCS));
}

int main(void)
{
	struct sgx_enclave_modify_types told;
	struct sgx_enclave_remove_pages removed;
	uint64_t value, sum;

	find_vdso();
	e = loaded();
	CHECK(map_at(&e, TCS, PAGE, PROT_READ | PROT_WRITE), in(&e, TCS));
	for (uint64_t round = 0; round < 3; round++) {
		refused(); /* a page appears, which is no TCS */
		CHECK(ACCEPT(&e, 0, TCS, SECINFO_RW | SECINFO_PENDING), 0);
		/* What is no TCS any more is not touched. */
		poke(&e, TCS, ~0ul);
		refused();
		CHECK(peek(&e, TCS), ~0ul);
		/* As the third or fourth thread's, whose SSA and page it has. */
		for (uint64_t i = 0; i < TCS_WORDS; i++) {
			memcpy(&value, enclave_image + enclave_tcs[2 + round % 2] + 8 * i, 8);
			poke(&e, TCS + 8 * i, value);
		}
		WORKS(sgx_modify(&e, TCS, PAGE, SECINFO_TCS, &told));
		CHECK(told.result, 0);
		CHECK(told.count, PAGE);
		refused();
		CHECK(ACCEPT(&e, 0, TCS, SECINFO_TRIM | SECINFO_MODIFIED), ATTRIBUTES_MISMATCH);
		CHECK(ACCEPT(&e, 0, TCS, SECINFO_TCS | SECINFO_MODIFIED), 0);
		CLEAN(&e, 2, OP_NOP, 0, 0, 0);
		CLEAN(&e, 3, OP_NOP, 0, 0, 0);
		for (uint64_t i = 0; i < 10; i++) {
			CHECK(by_new(OP_ADD, 40, i, (uint64_t)&sum), 0);
			CHECK(run.function, EEXIT);
			CHECK(sum, 40 + i);
		}
		EXCEPTION(&e, 0, OP_READ, in(&e, TCS), &value, 0, 14, 0x8005, in(&e, TCS));
		CLEAN(&e, 0, OP_FRAME_ADD, FRAME_RIP, 3, 0);
		RESUMES(&e, 0);
		FAILS(EACCES, mprotect((void *)in(&e, TCS), PAGE, PROT_READ | PROT_EXEC));
		FAILS(EINVAL, sgx_modify(&e, TCS, PAGE, SECINFO_TCS, &told));
		WORKS(sgx_modify(&e, TCS, PAGE, SECINFO_TRIM, &told));
		refused();
		CHECK(ACCEPT(&e, 0, TCS, SECINFO_TRIM | SECINFO_MODIFIED), 0);
		refused();
		WORKS(sgx_remove(&e, TCS, PAGE, &removed));
	}
	return success();
}
