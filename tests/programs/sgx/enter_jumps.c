/* SPDX-License-Identifier: Apache-2.0 */
/* Code is only what the enclave has as code: a jump elsewhere is #PF inside its range and #GP outside. */
#include "sgx.h"

static struct enclave e;

/* Inlined: ERESUME must come from the frame of EENTER. */
static inline __attribute__((always_inline)) void leave_from(uint64_t rip)
{
	CHECK(run.function, ERESUME);
	CLEAN(&e, 0, OP_FRAME_ADD, FRAME_RIP, in(&e, AT_LEAVE) - rip, 0);
	RESUMES(&e, 0);
}

int main(void)
{
	uint64_t value = 0, data, hole, outside = (uintptr_t)&value & -16ul;

	e = loaded();
	data = in(&e, AT_DATA) + 16;
	hole = in(&e, AT_DATA_END) + 32;
	EXCEPTION(&e, 0, OP_JUMP, hole, 0, 0, 14, 0x14, hole & -PAGE);
	leave_from(hole);
	poke(&e, AT_DATA, 0);
	EXCEPTION(&e, 0, OP_JUMP, data, 0, 0, 14, 0x15, data & -PAGE);
	leave_from(data);
	EXCEPTION(&e, 0, OP_JUMP, outside, 0, 0, 13, 0, 0);
	leave_from(outside);
	EXCEPTION(&e, 0, OP_JUMP, 0, 0, 0, 13, 0, 0);
	leave_from(0);
	CLEAN(&e, 0, OP_JUMP, in(&e, AT_LEAVE), 0, 0);
	return success();
}
