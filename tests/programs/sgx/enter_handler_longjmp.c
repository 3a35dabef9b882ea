/* SPDX-License-Identifier: Apache-2.0 */
/* A user handler leaves by longjmp, after an exit and after an exception; the thread enters again. */
#include "sgx.h"

static struct enclave e;
static jmp_buf back;

static int jump(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct sgx_enclave_run *r)
{
	(void)rdi, (void)rsi, (void)rdx, (void)rsp, (void)r8, (void)r9;
	longjmp(back, r->function);
}

/* All in one frame: ERESUME must come from where EENTER did. */
static __attribute__((noinline)) int call(unsigned int function, uint64_t op, uint64_t a, uint64_t b)
{
	int from = setjmp(back);

	if (from)
		return from;
	run.user_handler = (uintptr_t)jump;
	enter(&e, 0, function, op, a, b, 0);
	return -1;
}

int main(void)
{
	uint64_t cssa = 9;

	e = loaded();
	for (int i = 0; i < 100; i++)
		CHECK(call(EENTER, OP_NOP, 0, 0), EEXIT);
	CHECK(call(EENTER, OP_UD2, 0, 0), ERESUME);
	CHECK(call(EENTER, OP_CSSA, 0, (uintptr_t)&cssa), EEXIT);
	CHECK(cssa, 1);
	CHECK(call(EENTER, OP_FRAME_ADD, FRAME_RIP, 2), EEXIT);
	CHECK(call(ERESUME, 0, 0, 0), EEXIT);
	CHECK(call(EENTER, OP_CSSA, 0, (uintptr_t)&cssa), EEXIT);
	CHECK(cssa, 0);
	return success();
}
