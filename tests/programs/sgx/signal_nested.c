/* SPDX-License-Identifier: Apache-2.0 */
/* A handler enters the enclave that was interrupted, in the next SSA frame, and others; then that one goes on. */
#include "sgx.h"

static struct enclave e;
static volatile int inside, stop;
static uint64_t total, cssa[4];

static void nested(int number, siginfo_t *info, void *context)
{
	if (!inside || stop)
		return;
	note(number, info, context);
	CHECK(RAW(&e, 0, OP_CSSA, 0, &cssa[0], 0), EEXIT);
	CHECK(RAW(&e, 0, OP_ADD, total, 1, &total), EEXIT);
	CLEAN(&e, 1, OP_CSSA, 0, &cssa[1], 0);
	CHECK(cssa[0], 1);
	CHECK(cssa[1], 0);
	if (seen.count == 20)
		stop = 1;
}

int main(void)
{
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } };
	uint64_t count = 0;

	e = loaded();
	handle(SIGALRM, nested, 0);
	WORKS(setitimer(ITIMER_REAL, &often, NULL));
	CHECK(RAW(&e, 0, OP_SPIN, &stop, &inside, &count), EEXIT);
	inside = 0;
	CHECK(count, 1);
	CHECK(total, seen.count);
	CHECK(RAW(&e, 0, OP_CSSA, 0, &cssa[0], 0), EEXIT);
	CHECK(cssa[0], 0);
	return success();
}
