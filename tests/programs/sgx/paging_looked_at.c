/* SPDX-License-Identifier: Apache-2.0 */
/* The host looks at pages all the time that are out, while other threads enter and leave, and use them. */
#include "paging.h"

static struct enclave e;
static volatile int done;

static void *look(void *data)
{
	uint64_t state = (uintptr_t)data;
	volatile uint64_t sum = 0;

	while (!done) {
		state = state * 6364136223846793005 + 1;
		sum += *(volatile uint64_t *)in(&e, AT_PAGE((state >> 40) % PAGES));
	}
	return NULL;
}

/* No code is there, whatever else is; which takes no time. */
static void run_it(void *data)
{
	alarm(20);
	((void (*)(void))in(&e, AT_PAGE((uintptr_t)data)))();
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 20;
	pthread_t lookers[2];

	e = pressed(argc > 2 ? ATTRIBUTE_DEBUG : 0);
	for (uintptr_t i = 0; i < 2; i++)
		CHECK(pthread_create(&lookers[i], NULL, look, (void *)i), 0);
	for (int round = 0; round < rounds; round++) {
		press(&e);
		all_as_they_were(&e);
	}
	for (uintptr_t i = 0; i < 3; i++)
		CHECK(in_child(run_it, (void *)i) & 0x7f, SIGSEGV);
	done = 1;
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(lookers[i], NULL), 0);
	return success();
}
