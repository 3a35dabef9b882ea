/* SPDX-License-Identifier: Apache-2.0 */
/* A TCS is one thread's at a time: #GP for another one, until the first has left. */
#include "sgx.h"

static struct enclave e;
static volatile int inside, go;

static void *spin(void *count)
{
	CLEAN(&e, 0, OP_SPIN, &go, &inside, count);
	return NULL;
}

int main(void)
{
	pthread_t thread;
	uint64_t count = 0;

	e = loaded();
	CHECK(pthread_create(&thread, NULL, spin, &count), 0);
	wait_for(&inside);
	for (int i = 0; i < 20; i++) {
		EXCEPTION(&e, 0, OP_NOP, 0, 0, 0, 13, 0, 0);
		CHECK(run.function, EENTER);
		CHECK(RESUME(&e, 0), 0);
		CHECK(run.function, ERESUME);
		CHECK(run.exception_vector, 13);
		CLEAN(&e, 1, OP_NOP, 0, 0, 0);
	}
	CHECK(count, 0);
	go = 1;
	CHECK(pthread_join(thread, NULL), 0);
	CHECK(count, 1);
	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	return success();
}
