/* SPDX-License-Identifier: Apache-2.0 */
/* Two processes inside one enclave at once, with a TCS each; on the same TCS the second is refused. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	volatile int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t count = 0;
	int status;
	pid_t child = (pid_t)WORKS(fork());

	if (!child) {
		CLEAN(&e, 0, OP_SPIN, &shared[1], &shared[0], &count);
		CHECK(count, 1);
		CLEAN(&e, 0, OP_WRITE, in(&e, AT_DATA), 44, 0);
		_exit(4);
	}
	wait_for(&shared[0]);
	EXCEPTION(&e, 0, OP_NOP, 0, 0, 0, 13, 0, 0);
	CLEAN(&e, 1, OP_WRITE, in(&e, AT_DATA), 33, 0);
	shared[1] = 1;
	CHECK(waitpid(child, &status, 0), child);
	CHECK(status, 4 << 8);
	CHECK(peek(&e, AT_DATA), 44);
	return success();
}
