/* SPDX-License-Identifier: Apache-2.0 */
/* fork, and programs started, while another thread is inside: both processes enter by other TCSs, and it goes on. */
#include "sgx.h"
#include <spawn.h>

static struct enclave e;
static volatile int stop;

static void *steps(void *unused)
{
	CLEAN(&e, 0, OP_STEP, &stop, in(&e, AT_DATA), 0);
	return unused;
}

static void enters(void *value)
{
	CLEAN(&e, 1, OP_WRITE, in(&e, AT_DATA + PAGE), *(uint64_t *)value, 0);
}

static uint64_t by_another_tcs(uint64_t offset)
{
	uint64_t value = 0;

	CLEAN(&e, 2, OP_READ, in(&e, offset), &value, 0);
	return value;
}

int main(void)
{
	char *words[] = { (char *)"true", NULL }, *none[] = { NULL };
	pthread_t thread;
	int status;
	pid_t child;

	e = loaded();
	CHECK(pthread_create(&thread, NULL, steps, NULL), 0);
	while (!by_another_tcs(AT_DATA))
		milliseconds(1);
	for (uint64_t i = 1; i < 10; i++) {
		uint64_t before = by_another_tcs(AT_DATA);

		CHECK(in_child(enters, &i), 0);
		CHECK(by_another_tcs(AT_DATA + PAGE), i);
		CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, words, none), 0);
		CHECK(waitpid(child, &status, 0), child);
		CHECK(status, 0);
		while (by_another_tcs(AT_DATA) == before)
			milliseconds(1);
	}
	stop = 1;
	CHECK(pthread_join(thread, NULL), 0);
	return success();
}
