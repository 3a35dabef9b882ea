/* SPDX-License-Identifier: Apache-2.0 */
/* What an exception leaves in the SSA: EXITINFO, and the address of the instruction. */
#include "sgx.h"

static struct enclave e;

static uint64_t frame(uint64_t offset)
{
	uint64_t value = 0;

	CLEAN(&e, 2, OP_FRAME_GET, offset, &value, 0);
	return value;
}

/* Inlined: ERESUME must come from the frame of EENTER. */
static inline __attribute__((always_inline)) void step(uint64_t bytes)
{
	uint64_t rip = frame(FRAME_RIP);

	CHECK(rip - e.base < PAGE, 1);
	CLEAN(&e, 2, OP_FRAME_ADD, FRAME_RIP, bytes, 0);
	CHECK(frame(FRAME_RIP), rip + bytes);
	RESUMES(&e, 2);
}

int main(void)
{
	uint64_t value;

	e = loaded();
	EXCEPTION(&e, 2, OP_UD2, 0, 0, 0, 6, 0, 0);
	CHECK((uint32_t)frame(FRAME_EXITINFO), 0x80000306);
	step(2);
	EXCEPTION(&e, 2, OP_DIVIDE, 0, 0, 0, 0, 0, 0);
	CHECK((uint32_t)frame(FRAME_EXITINFO), 0x80000300);
	step(3);
	/* #GP and #PF are told in the SSA only where MISCSELECT asks for it. */
	EXCEPTION(&e, 2, OP_HALT, 0, 0, 0, 13, 0, 0);
	CHECK((uint32_t)frame(FRAME_EXITINFO), 0);
	step(1);
	EXCEPTION(&e, 2, OP_READ, 0, &value, 0, 14, 4, 0);
	CHECK((uint32_t)frame(FRAME_EXITINFO), 0);
	step(3);
	return success();
}
