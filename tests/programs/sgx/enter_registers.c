/* SPDX-License-Identifier: Apache-2.0 */
/* Every register of the enclave survives signals, and none is seen by their handlers. */
#include "sgx.h"

static volatile int inside, go, enough;

static void alarmed(int number, siginfo_t *info, void *context)
{
	const greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;

	note(number, info, context);
	if (!inside || go || r[REG_RAX] != ERESUME)
		return;
	for (int i = REG_R8; i <= REG_R15; i++)
		CHECK(r[i], 0);
	CHECK(((ucontext_t *)context)->uc_mcontext.fpregs->_xmm[0].element[0], 0);
	CHECK(((ucontext_t *)context)->uc_mcontext.fpregs->_xmm[15].element[0], 0);
	CHECK(r[REG_RDI], 0);
	CHECK(r[REG_RSI], 0);
	CHECK(r[REG_RDX], 0);
	if (++enough == 30)
		go = 1;
}

static void once(const struct enclave *e, int raw)
{
	uint64_t same = 0;

	inside = go = enough = 0;
	if (raw)
		CHECK(RAW(e, 0, OP_REGISTERS, &go, &inside, &same), EEXIT);
	else
		CLEAN(e, 0, OP_REGISTERS, &go, &inside, &same);
	CHECK(same, 1);
	CHECK(enough, 30);
}

int main(void)
{
	struct enclave e = loaded();
	struct itimerval often = { { 0, 2000 }, { 0, 2000 } };

	handle(SIGALRM, alarmed, SA_RESTART);
	WORKS(setitimer(ITIMER_REAL, &often, NULL));
	once(&e, 1);
	once(&e, 0);
	return success();
}
