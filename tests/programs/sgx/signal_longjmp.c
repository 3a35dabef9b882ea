/* SPDX-License-Identifier: Apache-2.0 */
/* siglongjmp out of the handler of a fault inside: the thread's next entry is in the next SSA frame. */
#include "sgx.h"

static struct enclave e;
static sigjmp_buf back;

static void out(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	siglongjmp(back, 1);
}

/* 0: it came out by EEXIT, else the signal. */
static int call(int thread, uint64_t op, uint64_t a, void *b)
{
	if (sigsetjmp(back, 1))
		return seen.number;
	CHECK(RAW(&e, thread, op, a, b, 0), EEXIT);
	return 0;
}

int main(void)
{
	uint64_t cssa = 9;

	e = loaded();
	handle(SIGSEGV, out, 0);
	handle(SIGILL, out, 0);
	CHECK(call(0, OP_READ, 8, &cssa), SIGSEGV);
	CHECK(call(0, OP_CSSA, 0, &cssa), 0);
	CHECK(cssa, 1);
	CHECK(call(0, OP_UD2, 0, NULL), SIGILL);
	/* No frame is left. */
	CHECK(call(0, OP_NOP, 0, NULL), SIGSEGV);
	CHECK(seen.trapno, 13);
	CHECK(seen.rax, EENTER);
	for (int i = 0; i < 2; i++)
		CHECK(call(1, OP_READ, 8, &cssa), SIGSEGV);
	CHECK(call(2, OP_CSSA, 0, &cssa), 0);
	CHECK(cssa, 0);
	return success();
}
