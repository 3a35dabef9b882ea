/* SPDX-License-Identifier: Apache-2.0 */
/* Code that leaves the EPC and comes back, its exits patched or not; exceptions in it; signals while its pages are out. */
#include "paging.h"

static volatile int ticks;

static void tick(int number)
{
	(void)number;
	ticks++;
}

int main(void)
{
	struct enclave e = pressed(0);
	struct itimerval often = { { 0, 700 }, { 0, 700 } };
	uint64_t value = 0;

	CHECK(RAW(&e, 1, OP_NOP, 0, 0, 0), EEXIT);
	signal(SIGALRM, tick);
	WORKS(setitimer(ITIMER_REAL, &often, NULL));
	for (int round = 0; round < 4; round++) {
		press(&e);
		CLEAN(&e, 1, OP_ADD, 40, round, &value);
		CHECK(value, 40 + round);
		press(&e);
		CHECK(RAW(&e, 1, OP_ADD, 50, round, &value), EEXIT);
		CHECK(value, 50 + round);
		press(&e);
		CLEAN(&e, 2, OP_REGISTERS, &(int){ 1 }, &(int){ 0 }, &value);
		CHECK(value, 1);
	}
	press(&e);
	EXCEPTION(&e, 3, OP_UD2, 0, 0, 0, 6, 0, 0);
	press(&e);
	/* In the frame of the exception, which must have come back as it was. */
	CLEAN(&e, 3, OP_FRAME_ADD, FRAME_RIP, 2, 0);
	press(&e);
	RESUMES(&e, 3);
	CHECK(peek(&e, AT_CONSTANT + 8), 0x0f0e0d0c0b0a0908);
	all_as_they_were(&e);
	CHECK(ticks > 0, 1);
	return success();
}
