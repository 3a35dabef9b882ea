/* SPDX-License-Identifier: Apache-2.0 */
/* A process that is killed while inside: its parent, which has the same enclave, goes on with it. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	volatile int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t count = 0;
	int status;
	pid_t child;

	for (int round = 0; round < 3; round++) {
		shared[0] = 0;
		child = (pid_t)WORKS(fork());
		if (!child) {
			RAW(&e, round, OP_SPIN, &shared[1], &shared[0], &count);
			_exit(1);
		}
		wait_for(&shared[0]);
		CLEAN(&e, 3, OP_NOP, 0, 0, 0);
		WORKS(kill(child, SIGKILL));
		CHECK(waitpid(child, &status, 0), child);
		CHECK(status, SIGKILL);
		CLEAN(&e, 3, OP_NOP, 0, 0, 0);
	}
	return success();
}
