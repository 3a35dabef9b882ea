/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages change by an ioctl of one process: when it returns, another one has no access any more, whatever it does
 * meanwhile: it is inside, waits in a system call, or runs outside, and sees nothing of being told.
 */
#include "sgx.h"

static struct enclave e;
static volatile int *shared;

static void *waiter(void *data)
{
	char byte;

	CHECK(read(*(int *)data, &byte, 1), 1); /* not EINTR */
	shared[3] = 1;
	return NULL;
}

static void *runner(void *data)
{
	(void)data;
	while (!shared[2])
		;
	return NULL;
}

static void child(int pipe)
{
	pthread_t threads[2];
	uint64_t before = 0;

	CHECK(pthread_create(&threads[0], NULL, waiter, &pipe), 0);
	CHECK(pthread_create(&threads[1], NULL, runner, NULL), 0);
	CLEAN(&e, 1, OP_WRITE, in(&e, AT_HOLES), 0, 0);
	shared[0] = 1;
	EXCEPTION(&e, 1, OP_STEP, &shared[1], in(&e, AT_HOLES), 0, 14, 0x8007, in(&e, AT_HOLES));
	CLEAN(&e, 2, OP_READ, in(&e, AT_HOLES), &before, 0);
	CHECK(before > 0, 1);
	shared[2] = 1;
	CHECK(pthread_join(threads[0], NULL), 0);
	CHECK(pthread_join(threads[1], NULL), 0);
	_exit(4);
}

int main(void)
{
	struct sgx_enclave_restrict_permissions told;
	int ends[2], status;
	uint64_t found;
	pid_t other;

	e = loaded();
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	WORKS(pipe(ends));
	CHECK(map_at(&e, AT_HOLES, PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	CHECK(ACCEPT(&e, 0, AT_HOLES, SECINFO_RW | SECINFO_PENDING), 0);
	other = (pid_t)WORKS(fork());
	if (!other)
		child(ends[0]);
	wait_for(&shared[0]);
	usleep(20000);
	WORKS(sgx_restrict(&e, AT_HOLES, PAGE, PROT_READ, &told));
	found = peek(&e, AT_HOLES);
	usleep(20000);
	CHECK(peek(&e, AT_HOLES), found);
	CHECK(shared[3], 0);
	WORKS(write(ends[1], "", 1));
	CHECK(waitpid(other, &status, 0), other);
	CHECK(status, 4 << 8);
	return success();
}
