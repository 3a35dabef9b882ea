/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave that leaves with another RSP: the user handler is told, and the function returns all the same. */
#include "sgx.h"

static uint64_t pushed[2];

static int look(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct sgx_enclave_run *r)
{
	(void)rdi, (void)rsi, (void)rdx, (void)r8, (void)r9, (void)r;
	memcpy(pushed, (void *)rsp, sizeof(pushed));
	return 0;
}

int main(void)
{
	struct enclave e = loaded();

	for (uint64_t i = 1; i < 50; i++) {
		run.user_handler = 0;
		CLEAN(&e, 0, OP_PUSH, i, 0, 0);
		run.user_handler = (uintptr_t)look;
		CLEAN(&e, 0, OP_PUSH, i * 1000, 0, 0);
		CHECK(pushed[0], i * 1000);
		CHECK(pushed[1], i * 1000);
	}
	return success();
}
