/* SPDX-License-Identifier: Apache-2.0 */
/* Signals that are blocked while the thread is inside stay pending; an ignored one is gone. */
#include "sgx.h"

static struct enclave e;
static volatile int inside, stop, arrived;
static pthread_t main_thread;

static void handler(int number)
{
	(void)number;
	arrived++;
}

static void *sends(void *unused)
{
	wait_for(&inside);
	for (int i = 0; i < 5; i++) {
		CHECK(pthread_kill(main_thread, SIGUSR1), 0);
		CHECK(pthread_kill(main_thread, SIGUSR2), 0);
		CHECK(pthread_kill(main_thread, SIGSEGV), 0);
		milliseconds(5);
	}
	CHECK(arrived, 0);
	stop = 1;
	return unused;
}

int main(void)
{
	sigset_t set, waiting;
	pthread_t thread;
	uint64_t count = 0;

	e = loaded();
	main_thread = pthread_self();
	signal(SIGUSR1, handler);
	signal(SIGUSR2, SIG_IGN);
	signal(SIGSEGV, handler);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGSEGV);
	WORKS(sigprocmask(SIG_BLOCK, &set, NULL));
	CHECK(pthread_create(&thread, NULL, sends, NULL), 0);
	CLEAN(&e, 0, OP_SPIN, &stop, &inside, &count);
	CHECK(pthread_join(thread, NULL), 0);
	CHECK(arrived, 0);
	CHECK(count, 1);
	WORKS(sigpending(&waiting));
	CHECK(sigismember(&waiting, SIGUSR1), 1);
	CHECK(sigismember(&waiting, SIGUSR2), 0);
	CHECK(sigismember(&waiting, SIGSEGV), 1);
	WORKS(sigprocmask(SIG_UNBLOCK, &set, NULL));
	CHECK(arrived, 2);
	CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	return success();
}
