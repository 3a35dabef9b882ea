/* SPDX-License-Identifier: Apache-2.0 */
/* exit, and the end of the first thread, while another one is inside. */
#include "sgx.h"

static struct enclave e;
static volatile int inside, stop;

static void *spin(void *unused)
{
	uint64_t count = 0;

	CLEAN(&e, 1, OP_SPIN, &stop, &inside, &count);
	CHECK(count, 1);
	_exit(7);
	return unused;
}

static void exits(void *unused)
{
	pthread_t thread;

	(void)unused;
	CHECK(pthread_create(&thread, NULL, spin, NULL), 0);
	wait_for(&inside);
	_exit(5);
}

static void *later(void *unused)
{
	milliseconds(20);
	stop = 1;
	return unused;
}

static void thread_exits(void *unused)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, spin, NULL), 0);
	CHECK(pthread_create(&thread, NULL, later, NULL), 0);
	wait_for(&inside);
	pthread_exit(unused);
}

int main(void)
{
	e = loaded();
	CHECK(in_child(exits, NULL), 5 << 8);
	CHECK(in_child(thread_exits, NULL), 7 << 8);
	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	return success();
}
