/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several threads change pages by ioctls at once, while other processes that map the enclave fork, and sleep in system
 * calls: nobody notices that he is told, and nobody dies of it.
 */
#include "sgx.h"

#define OTHERS 3
#define THREADS 3
#define TIMES 60ul

static struct enclave e;
static volatile int *stop;

static void *changes(void *data)
{
	const uint64_t first = AT_HOLES + (uintptr_t)data * TIMES * PAGE;
	struct sgx_enclave_restrict_permissions told;

	for (uint64_t i = 0; i < TIMES; i++) {
		CHECK(ACCEPT(&e, (int)(uintptr_t)data, first + i * PAGE, SECINFO_RW | SECINFO_PENDING), 0);
		while (sgx_restrict(&e, first + i * PAGE, PAGE, PROT_READ, &told))
			CHECK(errno, EBUSY); /* another thread's */
		CHECK(ACCEPT(&e, (int)(uintptr_t)data, first + i * PAGE, SECINFO_REG | SECINFO_R | SECINFO_PR), 0);
	}
	return NULL;
}

static void other(void)
{
	const struct timespec little = { .tv_nsec = 300000 };
	int status;

	while (!*stop) {
		pid_t child = (pid_t)WORKS(fork());

		if (!child)
			_exit(0);
		WORKS(nanosleep(&little, NULL));
		CHECK(waitpid(child, &status, 0), child);
		CHECK(status, 0);
	}
	_exit(4);
}

int main(void)
{
	pthread_t threads[THREADS];
	pid_t others[OTHERS];
	int status;

	e = loaded();
	stop = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(map_at(&e, AT_HOLES, THREADS * TIMES * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	for (int i = 0; i < OTHERS; i++) {
		others[i] = (pid_t)WORKS(fork());
		if (!others[i])
			other();
	}
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, changes, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL), 0);
	*stop = 1;
	for (int i = 0; i < OTHERS; i++) {
		CHECK(waitpid(others[i], &status, 0), others[i]);
		CHECK(status, 4 << 8);
	}
	return success();
}
