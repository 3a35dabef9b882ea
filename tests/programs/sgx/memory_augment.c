/* SPDX-License-Identifier: Apache-2.0 */
/* A hole that the enclave touches gets a page, which the enclave must accept: what struct sgx_enclave_run says of it. */
#include "sgx.h"

static struct enclave e;

/* The touch of a page that is not accepted, and the same again when it is. */
static inline __attribute__((always_inline)) void touch(uint64_t at, uint64_t op, uint64_t b, int code)
{
	EXCEPTION(&e, 0, op, in(&e, at) + 16, b, 0, 14, code, in(&e, at));
	CHECK(run.function, ERESUME);
	/* Not by itself. */
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_error_code, code);
	CHECK(ACCEPT(&e, 1, at, SECINFO_RW | SECINFO_PENDING), 0);
	RESUMES(&e, 0);
}

int main(void)
{
	uint64_t value = 1;

	e = loaded();
	/* Neither page nor mapping. */
	EXCEPTION(&e, 2, OP_READ, in(&e, AT_HOLES), &value, 0, 14, 4, in(&e, AT_HOLES));
	EXCEPTION(&e, 3, OP_WRITE, in(&e, AT_HOLES), 1, 0, 14, 6, in(&e, AT_HOLES));
	CHECK(map_at(&e, AT_HOLES, 8 * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	touch(AT_HOLES, OP_WRITE, 0x1234, 0x8007);
	CHECK(peek(&e, AT_HOLES + 16), 0x1234);
	CHECK(peek(&e, AT_HOLES), 0);
	touch(AT_HOLES + PAGE, OP_READ, (uint64_t)&value, 0x8005);
	CHECK(value, 0);
	poke(&e, AT_HOLES + PAGE, 7);
	CHECK(peek(&e, AT_HOLES + PAGE), 7);
	return success();
}
