/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions inside come back in struct sgx_enclave_run; a second entry steps over the instruction, ERESUME goes on. */
#include "sgx.h"

static struct enclave e;

/* The instruction has so many bytes. Inlined: ERESUME must come from the frame of EENTER. */
static inline __attribute__((always_inline)) void step(uint64_t bytes)
{
	uint64_t cssa = 0;

	CHECK(run.function, ERESUME);
	CLEAN(&e, 0, OP_CSSA, 0, &cssa, 0);
	CHECK(cssa, 1);
	CLEAN(&e, 0, OP_FRAME_ADD, FRAME_RIP, bytes, 0);
	RESUMES(&e, 0);
}

int main(void)
{
	uint64_t value = 0;
	char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	e = loaded();
	EXCEPTION(&e, 0, OP_UD2, 0, 0, 0, 6, 0, 0);
	step(2);
	EXCEPTION(&e, 0, OP_DIVIDE, 0, 0, 0, 0, 0, 0);
	step(3);
	EXCEPTION(&e, 0, OP_HALT, 0, 0, 0, 13, 0, 0);
	step(1);
	EXCEPTION(&e, 0, OP_INT3, 0, 0, 0, 6, 0, 0);
	step(1);
	EXCEPTION(&e, 0, OP_SYSCALL, 0, 0, 0, 6, 0, 0);
	step(2);
	EXCEPTION(&e, 0, OP_SIMD, 0, 0, 0, 19, 0, 0);
	step(4);
	EXCEPTION(&e, 0, OP_ENCLU, EENTER, 0, 0, 13, 0, 0);
	step(3);
	EXCEPTION(&e, 0, OP_ENCLU, ERESUME, 0, 0, 13, 0, 0);
	step(3);
	EXCEPTION(&e, 0, OP_ENCLU, 99, 0, 0, 13, 0, 0);
	step(3);
	/* Memory outside. */
	EXCEPTION(&e, 0, OP_READ, 0, &value, 0, 14, 4, 0);
	step(3);
	EXCEPTION(&e, 0, OP_WRITE, 0x1000, 0, 0, 14, 6, 0x1000);
	step(3);
	EXCEPTION(&e, 0, OP_READ, none, &value, 0, 14, 4, none);
	step(3);
	EXCEPTION(&e, 0, OP_READ, 1ul << 63, &value, 0, 13, 0, 0);
	step(3);
	CLEAN(&e, 0, OP_READ, page, &value, 0);
	EXCEPTION(&e, 0, OP_WRITE, page, 1, 0, 14, 7, page);
	step(3);
	/* Its own: the lowest 12 bits of the address are not told. */
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT_CONSTANT) + 24, 1, 0, 14, 6, in(&e, AT_CONSTANT));
	step(3);
	CHECK(peek(&e, AT_CONSTANT), 0x0706050403020100);
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT_CONSTANT) + 24, 1, 0, 14, 7, in(&e, AT_CONSTANT));
	step(3);
	EXCEPTION(&e, 0, OP_READ, in(&e, AT_DATA_END) + 8, &value, 0, 14, 4, in(&e, AT_DATA_END));
	step(3);
	EXCEPTION(&e, 0, OP_READ, tcs_of(&e, 0), &value, 0, 14, 0x8005, tcs_of(&e, 0));
	step(3);
	return success();
}
