/* SPDX-License-Identifier: Apache-2.0 */
/* What was mapped before INIT is judged as what it has become: code that this program may not execute, in two processes. */
#include "policy.h"

static struct enclave e;

static inline __attribute__((always_inline)) void entered(int thread)
{
	uint64_t sum = 0;

	if (policed)
		EXCEPTION(&e, thread, OP_ADD, 40, 2, &sum, 14, 0x15, in(&e, 0));
	else
		CLEAN(&e, thread, OP_ADD, 40, 2, &sum);
	CHECK(sum, policed ? 0 : 42);
}

int main(int argc, char **argv)
{
	int pair[2], status;
	pid_t child;

	(void)argc;
	begin(argv);
	WORKS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	e = approved();
	map_all(&e);
	child = (pid_t)WORKS(fork());
	if (!child) {
		CHECK(read(pair[1], &(char){ 0 }, 1), 1);
		entered(1);
		fflush(stdout);
		_exit(0);
	}
	WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	entered(0);
	CHECK(write(pair[0], "x", 1), 1);
	CHECK(waitpid(child, &status, 0), child);
	CHECK(status, 0);
	return success();
}
