/* SPDX-License-Identifier: Apache-2.0 */
/* A timer's signals while the thread is inside: each finds it at the AEP with RAX 3, and it goes on behind. */
#include "sgx.h"

static volatile int inside, stop;

static void alarmed(int number, siginfo_t *info, void *context)
{
	(void)number;
	if (!inside || stop)
		return;
	note(number, info, context);
	if (seen.count == 20)
		stop = 1;
}

int main(void)
{
	struct enclave e = loaded();
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } };
	uint64_t count = 0, vdso = getauxval(AT_SYSINFO_EHDR);

	handle(SIGALRM, alarmed, 0);
	WORKS(setitimer(ITIMER_REAL, &often, NULL));
	CHECK(RAW(&e, 0, OP_SPIN, &stop, &inside, &count), EEXIT);
	inside = 0;
	CHECK(count, 1);
	CHECK(seen.count, 20);
	CHECK(seen.code, SI_KERNEL);
	CHECK(seen.rip, raw_enclu);
	CHECK(seen.rax, ERESUME);
	CHECK(seen.rbx, tcs_of(&e, 0));
	CHECK(seen.rcx, raw_enclu);
	seen.count = stop = 0;
	CLEAN(&e, 1, OP_SPIN, &stop, &inside, &count);
	inside = 0;
	CHECK(count, 2);
	CHECK(seen.count, 20);
	CHECK(seen.rip - vdso < 0x10000, 1);
	CHECK(seen.rax, ERESUME);
	CHECK(seen.rbx, tcs_of(&e, 1));
	return success();
}
