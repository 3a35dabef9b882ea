/* SPDX-License-Identifier: Apache-2.0 */
/* Signals of another thread while one is inside: each arrives, with what was sent along. */
#include "sgx.h"

static struct enclave e;
static volatile int inside, stop, arrived, last, code;
static pthread_t thread;

static void handler(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	CHECK(pthread_equal(pthread_self(), thread) != 0, 1);
	last = info->si_value.sival_int;
	code = info->si_code;
	arrived++;
}

static void *spin(void *count)
{
	CLEAN(&e, 2, OP_SPIN, &stop, &inside, count);
	return NULL;
}

int main(void)
{
	uint64_t count = 0;

	e = loaded();
	handle(SIGUSR1, handler, 0);
	handle(SIGRTMIN, handler, 0);
	CHECK(pthread_create(&thread, NULL, spin, &count), 0);
	wait_for(&inside);
	for (int i = 1; i <= 20; i++) {
		CHECK(pthread_sigqueue(thread, SIGUSR1, (union sigval){ .sival_int = i }), 0);
		while (arrived < i)
			milliseconds(1);
		CHECK(last, i);
		CHECK(code, SI_QUEUE);
	}
	/* Real-time signals are queued and none is lost. */
	for (int i = 1; i <= 20; i++)
		CHECK(pthread_sigqueue(thread, SIGRTMIN, (union sigval){ .sival_int = 100 + i }), 0);
	while (arrived < 40)
		milliseconds(1);
	CHECK(last, 120);
	CHECK(pthread_kill(thread, SIGUSR1), 0);
	while (arrived < 41)
		milliseconds(1);
	CHECK(code, SI_TKILL);
	CHECK(count, 0);
	stop = 1;
	CHECK(pthread_join(thread, NULL), 0);
	CHECK(count, 1);
	return success();
}
