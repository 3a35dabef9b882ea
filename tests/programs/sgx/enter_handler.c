/* SPDX-License-Identifier: Apache-2.0 */
/* The user handler: what it is given at an exit and at an exception, and what becomes of what it returns. */
#include "sgx.h"

static struct enclave e;
static int calls, returns;
static long given[6];
static struct sgx_enclave_run *given_run;

static int handler(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct sgx_enclave_run *r)
{
	const long all[] = { rdi, rsi, rdx, rsp, r8, r9 };

	memcpy(given, all, sizeof(given));
	given_run = r;
	calls++;
	CHECK((uintptr_t)__builtin_frame_address(0) % 16, 0);
	return returns;
}

static int call(int value, uint64_t op, uint64_t a, uint64_t b, uint64_t c)
{
	returns = value;
	run.user_handler = (uintptr_t)handler;
	return enter(&e, 0, EENTER, op, a, b, c);
}

int main(void)
{
	static const int passed[] = { 0, -1, -5, -1000000 }, refused[] = { 1, 4, 5, 1000 };
	int expected = 0;

	e = loaded();
	run.user_data = 0xdeadbeef;
	for (int i = 0; i < 4; i++) {
		CHECK(call(passed[i], OP_NOP, 11, 12, 13), passed[i]);
		CHECK(calls, ++expected);
		CHECK(run.function, EEXIT);
		CHECK(given[0], OP_NOP);
		CHECK(given[1], 11);
		CHECK(given[2], 12);
		CHECK(given[4], 13);
		CHECK(given[5], 0);
		CHECK(given_run, &run);
		CHECK(run.user_data, 0xdeadbeef);
	}
	for (int i = 0; i < 4; i++) {
		CHECK(call(refused[i], OP_NOP, 0, 0, 0), -EINVAL);
		CHECK(calls, ++expected);
	}
	CHECK(call(-7, OP_WRITE, 0x5000, 1, 0), -7);
	CHECK(calls, ++expected);
	CHECK(run.function, ERESUME);
	CHECK(given[0], 14);
	CHECK(given[1], 6);
	CHECK(given[2], 0x5000);
	CHECK(given[4], 0);
	CHECK(given[5], 0);
	/* EENTER itself fails. */
	run.tcs = e.base + 1;
	CHECK(vdso_call(0, 0, 0, EENTER, 0, 0, &run), -7);
	CHECK(calls, ++expected);
	CHECK(given[0], 13);
	CHECK(run.function, EENTER);
	/* It is not called for what the function refuses itself, nor when there is none. */
	CHECK(vdso_call(0, 0, 0, 9, 0, 0, &run), -EINVAL);
	run.user_handler = 0;
	CLEAN(&e, 1, OP_NOP, 0, 0, 0);
	CHECK(calls, expected);
	return success();
}
