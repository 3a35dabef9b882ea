/* SPDX-License-Identifier: Apache-2.0 */
/* exec while another thread is inside; the new program makes an enclave of its own. */
#include "sgx.h"

static struct enclave e;
static volatile int inside, never;

static void *spin(void *count)
{
	CLEAN(&e, 1, OP_SPIN, &never, &inside, count);
	return NULL;
}

int main(int argc, char **argv)
{
	char *words[] = { argv[0], (char *)"again", NULL };
	pthread_t thread;
	uint64_t count = 0, sum = 0;

	e = loaded();
	CLEAN(&e, 0, OP_ADD, 20, 22, &sum);
	CHECK(sum, 42);
	if (argc > 1)
		return success();
	CHECK(pthread_create(&thread, NULL, spin, &count), 0);
	wait_for(&inside);
	execv("/proc/self/exe", words);
	return 1;
}
