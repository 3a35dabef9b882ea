/* SPDX-License-Identifier: Apache-2.0 */
/* A thread for each TCS, all inside at once and often. */
#include "sgx.h"

static struct enclave e;
static volatile int inside[4], go;

static void *work(void *data)
{
	int me = (int)(uintptr_t)data;
	uint64_t sum = 0, count = 0;

	CLEAN(&e, me, OP_SPIN, &go, &inside[me], &count);
	CHECK(count, 1);
	for (uint64_t i = 0; i < 1000; i++) {
		CLEAN(&e, me, OP_ADD, sum, 1, &sum);
		CHECK(sum, i + 1);
		if (i % 100 == 0)
			CLEAN(&e, me, OP_WRITE, in(&e, AT_DATA + (uint64_t)me * PAGE), i, 0);
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[4];

	e = loaded();
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)i), 0);
	for (int i = 0; i < 4; i++)
		wait_for(&inside[i]);
	go = 1;
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL), 0);
	for (uint64_t i = 0; i < 4; i++)
		CHECK(peek(&e, AT_DATA + i * PAGE), 900);
	return success();
}
