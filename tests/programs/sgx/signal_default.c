/* SPDX-License-Identifier: Apache-2.0 */
/* Without a handler, what happens inside ends the process by the signal that it would be. */
#include "sgx.h"
#include <sys/resource.h>

static struct enclave e;
static uint64_t op, address;
static volatile int never, inside;

static void enters(void *unused)
{
	(void)unused;
	e = loaded();
	RAW(&e, 0, op, address, &inside, 0);
}

static void ignores(void *number)
{
	signal(*(int *)number, SIG_IGN);
	enters(NULL);
}

static void blocks(void *number)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, *(int *)number);
	sigprocmask(SIG_BLOCK, &set, NULL);
	enters(NULL);
}

static void spins(void *number)
{
	struct itimerval soon = { { 0, 0 }, { 0, 10000 } };

	(void)number;
	e = loaded();
	setitimer(ITIMER_REAL, &soon, NULL);
	RAW(&e, 0, OP_SPIN, &never, &inside, &op);
}

int main(void)
{
	static const struct {
		uint64_t op, address;
		int number;
	} all[] = { { OP_UD2, 0, SIGILL }, { OP_DIVIDE, 0, SIGFPE }, { OP_HALT, 0, SIGSEGV }, { OP_READ, 8, SIGSEGV } };
	struct rlimit none = { 0, 0 };
	int number;

	WORKS(setrlimit(RLIMIT_CORE, &none));
	e = loaded();
	for (int i = 0; i < 4; i++) {
		op = all[i].op;
		address = all[i].address;
		number = all[i].number;
		CHECK(in_child(enters, NULL), number);
		/* What the CPU raises is neither ignored nor blocked. */
		CHECK(in_child(ignores, &number), number);
		CHECK(in_child(blocks, &number), number);
	}
	CHECK(in_child(spins, NULL), SIGALRM);
	CLEAN(&e, 1, OP_NOP, 0, 0, 0);
	return success();
}
