/* SPDX-License-Identifier: Apache-2.0 */
/* SIGSTOP and SIGCONT while a thread is inside: nothing is done meanwhile, and it goes on. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	volatile int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile uint64_t *steps = (volatile uint64_t *)(shared + 16);
	uint64_t before;
	int status;
	pid_t child = (pid_t)WORKS(fork());

	if (!child) {
		CHECK(RAW(&e, 0, OP_STEP, &shared[0], steps, 0), EEXIT);
		_exit(3);
	}
	for (int round = 0; round < 5; round++) {
		before = *steps;
		while (*steps == before)
			milliseconds(1);
		WORKS(kill(child, SIGSTOP));
		CHECK(waitpid(child, &status, WUNTRACED), child);
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, 1);
		before = *steps;
		milliseconds(10);
		CHECK(*steps, before);
		WORKS(kill(child, SIGCONT));
		CHECK(waitpid(child, &status, WCONTINUED), child);
		CHECK(WIFCONTINUED(status) != 0, 1);
	}
	shared[0] = 1;
	CHECK(waitpid(child, &status, 0), child);
	CHECK(status, 3 << 8);
	return success();
}
