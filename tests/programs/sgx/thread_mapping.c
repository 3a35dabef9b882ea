/* SPDX-License-Identifier: Apache-2.0 */
/* While one thread is inside, another one maps, protects and unmaps parts of the enclave that the first uses. */
#include "sgx.h"

static struct enclave e;
static volatile int stop;

static void *steps(void *unused)
{
	CHECK(ENTER(&e, 1, OP_STEP, &stop, in(&e, AT_DATA), 0), 0);
	while (run.function != EEXIT) {
		/* The page is away, or read-only, for a moment. */
		CHECK(run.exception_vector, 14);
		CHECK(run.exception_addr, in(&e, AT_DATA));
		CHECK(RESUME(&e, 1), 0);
	}
	return unused;
}

int main(void)
{
	pthread_t thread;
	void *data;
	uint64_t before;

	find_vdso();
	e = loaded();
	data = (void *)in(&e, AT_DATA);
	CHECK(pthread_create(&thread, NULL, steps, NULL), 0);
	for (int i = 0; i < 100; i++) {
		WORKS(mprotect(data, PAGE, PROT_READ));
		WORKS(mprotect(data, PAGE, PROT_READ | PROT_WRITE));
		WORKS(munmap(data, PAGE));
		CHECK(map_at(&e, AT_DATA, PAGE, PROT_READ | PROT_WRITE), data);
		CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	}
	before = peek(&e, AT_DATA);
	while (peek(&e, AT_DATA) == before)
		milliseconds(1);
	stop = 1;
	CHECK(pthread_join(thread, NULL), 0);
	CHECK(peek(&e, AT_DATA) > before, 1);
	return success();
}
