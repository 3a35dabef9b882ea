/* SPDX-License-Identifier: Apache-2.0 */
/* SA_ONSTACK, SA_NODEFER, SA_RESETHAND and sa_mask of the handler of a fault inside an enclave. */
#include "sgx.h"

static struct enclave e;
static char stack[65536] __attribute__((aligned(16)));
static int on_stack, segv_blocked, usr1_blocked;

static void mend(int number, siginfo_t *info, void *context)
{
	sigset_t now;
	char *here = __builtin_frame_address(0);

	note(number, info, context);
	WORKS(sigprocmask(SIG_BLOCK, NULL, &now));
	segv_blocked = sigismember(&now, SIGSEGV);
	usr1_blocked = sigismember(&now, SIGUSR1);
	on_stack = here > stack && here < stack + sizeof(stack);
	WORKS(mprotect((void *)in(&e, AT_DATA), PAGE, PROT_READ | PROT_WRITE));
}

static void fault(int flags, int mask)
{
	struct sigaction action = { .sa_sigaction = mend, .sa_flags = SA_SIGINFO | flags };
	sigset_t now;
	char here;

	if (mask)
		sigaddset(&action.sa_mask, SIGUSR1);
	WORKS(sigaction(SIGSEGV, &action, NULL));
	WORKS(mprotect((void *)in(&e, AT_DATA), PAGE, PROT_READ));
	seen.count = 0;
	CHECK(RAW(&e, 0, OP_WRITE, in(&e, AT_DATA), 1, 0), EEXIT);
	CHECK(seen.count, 1);
	CHECK(seen.rsp < (uintptr_t)&here && seen.rsp > (uintptr_t)&here - 4096, 1);
	CHECK(on_stack, !!(flags & SA_ONSTACK));
	CHECK(segv_blocked, !(flags & SA_NODEFER));
	CHECK(usr1_blocked, mask);
	WORKS(sigaction(SIGSEGV, NULL, &action));
	CHECK(action.sa_sigaction == (flags & (int)SA_RESETHAND ? (void *)SIG_DFL : (void *)mend), 1);
	WORKS(sigprocmask(SIG_BLOCK, NULL, &now));
	CHECK(sigismember(&now, SIGSEGV), 0);
	CHECK(sigismember(&now, SIGUSR1), 0);
}

int main(void)
{
	static const int all[] = { SA_ONSTACK, SA_NODEFER, (int)SA_RESETHAND };
	stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };

	WORKS(sigaltstack(&other, NULL));
	e = loaded();
	for (int i = 0; i < 8; i++)
		for (int mask = 0; mask < 2; mask++)
			fault((i & 1 ? all[0] : 0) | (i & 2 ? all[1] : 0) | (i & 4 ? all[2] : 0), mask);
	return success();
}
