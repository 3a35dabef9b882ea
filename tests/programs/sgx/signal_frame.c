/* SPDX-License-Identifier: Apache-2.0 */
/* The signal frame: a handler may change the mask to return to, and finds the state of the FPU and the old mask in it. */
#include "sgx.h"

static struct enclave e;
static uint64_t had;

static void handler(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	note(number, info, context);
	had = *(uint64_t *)&uc->uc_sigmask;
	CHECK(uc->uc_mcontext.fpregs != NULL, 1);
	CHECK((uintptr_t)uc->uc_mcontext.fpregs % 16, 0);
	sigaddset(&uc->uc_sigmask, SIGUSR2);
	WORKS(mprotect((void *)in(&e, AT_DATA), PAGE, PROT_READ | PROT_WRITE));
}

int main(void)
{
	sigset_t set;

	e = loaded();
	handle(SIGSEGV, handler, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	for (int i = 0; i < 3; i++) {
		WORKS(sigprocmask(SIG_SETMASK, &set, NULL));
		WORKS(mprotect((void *)in(&e, AT_DATA), PAGE, PROT_READ));
		CHECK(RAW(&e, 0, OP_WRITE, in(&e, AT_DATA), 1, 0), EEXIT);
		CHECK(seen.count, i + 1);
		CHECK(had, 1ul << (SIGUSR1 - 1));
		WORKS(sigprocmask(SIG_SETMASK, NULL, &set));
		CHECK(sigismember(&set, SIGUSR1), 1);
		CHECK(sigismember(&set, SIGUSR2), 1);
		CHECK(sigismember(&set, SIGSEGV), 0);
		sigdelset(&set, SIGUSR2);
	}
	return success();
}
