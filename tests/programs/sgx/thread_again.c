/* SPDX-License-Identifier: Apache-2.0 */
/* Threads come and go on the same stack, and each enters; one goes on where another had an exception. */
#include "sgx.h"

static struct enclave e;
static char stack[1 << 17] __attribute__((aligned(4096)));
static uint64_t sum;

static void *enters(void *unused)
{
	CLEAN(&e, 0, OP_ADD, sum, 1, &sum);
	return unused;
}

/* One function, so that both threads are equally deep in their stack. */
static void *half(void *unused)
{
	static int second;

	if (second++)
		RESUMES(&e, 3);
	else
		EXCEPTION(&e, 3, OP_READ, in(&e, AT_CONSTANT), &sum, 0, 14, 4, in(&e, AT_CONSTANT));
	return unused;
}

static void in_thread(void *(*start)(void *))
{
	pthread_attr_t attributes;
	pthread_t thread;

	CHECK(pthread_attr_init(&attributes), 0);
	CHECK(pthread_attr_setstack(&attributes, stack, sizeof(stack)), 0);
	CHECK(pthread_create(&thread, &attributes, start, NULL), 0);
	CHECK(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attributes);
}

int main(void)
{
	e = loaded();
	/* More of them than the machine's tables hold at once. */
	for (uint64_t i = 1; i <= 300; i++) {
		in_thread(enters);
		CHECK(sum, i);
	}
	WORKS(mprotect((void *)in(&e, AT_CONSTANT), PAGE, PROT_NONE));
	in_thread(half);
	WORKS(mprotect((void *)in(&e, AT_CONSTANT), PAGE, PROT_READ));
	in_thread(half);
	CHECK(sum, 0x0706050403020100);
	return success();
}
