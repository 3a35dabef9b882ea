/* SPDX-License-Identifier: Apache-2.0 */
/* Threads grow and shrink the enclave side by side, and use what the others have added; so does a fork's child. */
#include "sgx.h"

#define PAGES 60ul
#define ROUNDS 3

static struct enclave e;

static uint64_t part(long thread, uint64_t page)
{
	return AT_HOLES + ((uint64_t)thread * PAGES + page) * PAGE;
}

static void grow(long thread)
{
	for (uint64_t i = 0; i < PAGES; i++) {
		CHECK(ACCEPT(&e, (int)thread, part(thread, i), SECINFO_RW | SECINFO_PENDING), 0);
		CLEAN(&e, (int)thread, OP_WRITE, in(&e, part(thread, i)), thread * 1000 + (long)i, 0);
	}
}

static void shrink(long thread)
{
	struct sgx_enclave_modify_types told;
	struct sgx_enclave_remove_pages removed;

	while (sgx_modify(&e, part(thread, 0), PAGES * PAGE, SECINFO_TRIM, &told))
		CHECK(errno, EBUSY); /* another thread's ioctl */
	for (uint64_t i = 0; i < PAGES; i++)
		CHECK(ACCEPT(&e, (int)thread, part(thread, i), SECINFO_TRIM | SECINFO_MODIFIED), 0);
	while (sgx_remove(&e, part(thread, 0), PAGES * PAGE, &removed))
		CHECK(errno, EBUSY);
	CHECK(removed.count, PAGES * PAGE);
}

static void *work(void *argument)
{
	long thread = (long)argument;
	uint64_t value;

	for (int round = 0; round < ROUNDS; round++) {
		if (round)
			shrink(thread);
		grow(thread);
		for (uint64_t i = 0; i < PAGES; i++) {
			CLEAN(&e, (int)thread, OP_READ, in(&e, part(thread, i)), &value, 0);
			CHECK(value, thread * 1000 + (long)i);
		}
	}
	return NULL;
}

/* The parent waits meanwhile; the enclave is the same. */
static void child(void *unused)
{
	(void)unused;
	CHECK(peek(&e, part(2, 7)), 2007);
	shrink(3);
	grow(3);
	poke(&e, part(3, 5), 77);
}

int main(void)
{
	pthread_t threads[ENCLAVE_THREADS];

	e = loaded();
	find_vdso();
	CHECK(map_at(&e, AT_HOLES, ENCLAVE_THREADS * PAGES * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	for (long i = 0; i < (long)ENCLAVE_THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)i), 0);
	for (long i = 0; i < (long)ENCLAVE_THREADS; i++)
		CHECK(pthread_join(threads[i], NULL), 0);
	CHECK(peek(&e, part(1, 5)), 1005);
	CHECK(in_child(child, NULL), 0);
	CHECK(peek(&e, part(3, 5)), 77);
	CHECK(peek(&e, part(3, 6)), 3006);
	return success();
}
