// SPDX-License-Identifier: Apache-2.0
/*
 * Calls into an enclave, and its exceptions.
 *
 * With an ENCLU of our own an exception is a signal at the AEP, with RAX = ERESUME and RBX = TCS: the enclave's own
 * handler is called, through the same TCS, and when the signal handler returns, the ENCLU at the AEP resumes. With the
 * vDSO all but #BP and #DB comes to the user handler instead. What is not the enclave's goes to whoever had the signal
 * before.
 */
#define _GNU_SOURCE
#include <string.h>

#include <asm/sgx.h>

#include "urts.h"

static const int caught[] = { SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS };
#define CAUGHT (sizeof(caught) / sizeof(caught[0]))
#define CAUGHT_WITH_VDSO 1 /* SIGTRAP; all else comes to the user handler */

static struct sigaction before[NSIG];
static bool handled[NSIG];
static void *vdso_function;
static uint64_t vdso_aep; /* learnt from the first signal there */
static __thread struct bound *bound;

static int enter(struct bound *self, uint64_t command, uint64_t argument, struct left *left);

static bool repair(struct bound *self, const struct exception *exception)
{
	struct left left;

	self->exception(self, exception);
	if (enter(self, COMMAND_EXCEPTION, 0, &left))
		return false;
	if (left.rdi != LEFT_DONE)
		fail("exception %lu of call at %#lx: the enclave says %lu at %#lx", exception->vector,
		     exception->address, left.rdi, left.rsi);
	return true;
}

static int user_handler(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct sgx_enclave_run *run)
{
	struct left *left = (struct left *)run->user_data;
	struct exception exception = {
		.vector = run->exception_vector,
		.error_code = run->exception_error_code,
		.address = run->exception_addr,
	};

	(void)rsp;
	(void)r8;
	(void)r9;
	switch (run->function) {
	case LEAF_EEXIT:
		*left = (struct left){ (uint64_t)rdi, (uint64_t)rsi, (uint64_t)rdx };
		return 0;
	case LEAF_ERESUME:
		if (!bound || bound->tcs != run->tcs)
			fail("an exception of TCS %#lx in a thread that has %#lx", (uint64_t)run->tcs,
			     bound ? bound->tcs : 0);
		if (!repair(bound, &exception))
			fail("no way into the enclave for its exception");
		return LEAF_ERESUME;
	default:
		return -1;
	}
}

/* A run and what it left, apart for each call: calls nest. */
static int enter(struct bound *self, uint64_t command, uint64_t argument, struct left *left)
{
	struct sgx_enclave_run run = {
		.tcs = self->tcs,
		.user_handler = (uint64_t)user_handler,
		.user_data = (uint64_t)left,
	};

	if (!vdso_function)
		return enter_by_enclu(self->tcs, command, argument, left, enclu_enter);
	return enter_by_vdso(vdso_function, command, argument, &run);
}

int runtime_call(struct bound *self, uint64_t command, void *argument)
{
	struct left left;

	if (enter(self, command, (uint64_t)argument, &left))
		return -1;
	while (left.rdi == LEFT_OCALL) {
		uint64_t result = self->ocall(self, left.rsi, left.rdx);

		if (enter(self, COMMAND_RETURN, result, &left))
			return -1;
	}
	if (left.rdi != LEFT_DONE)
		fail("the enclave says %lu at %#lx", left.rdi, left.rsi);
	return 0;
}

uint64_t runtime_probe(struct bound *self)
{
	struct left left;

	if (enter(self, COMMAND_PROBE, 0, &left))
		fail("no way into the enclave");
	if (left.rdi != LEFT_DONE)
		fail("the enclave says %lu at %#lx", left.rdi, left.rsi);
	return left.rsi;
}

uint64_t runtime_aep(void)
{
	return vdso_function ? __atomic_load_n(&vdso_aep, __ATOMIC_RELAXED) : (uint64_t)enclu_aep;
}

/* Whether a signal came at the AEP; and then all that an asynchronous exit leaves must be as the manual says. */
bool runtime_at_aep(const greg_t *regs)
{
	static const int zero[] = { REG_RDX, REG_RSI, REG_RDI, REG_R8,	REG_R9,	 REG_R10,
				    REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

	if (regs[REG_RAX] != LEAF_ERESUME || regs[REG_RIP] != regs[REG_RCX])
		return false;
	if (!vdso_function && regs[REG_RIP] != (greg_t)enclu_aep)
		return false;
	/* RCX = RIP is also what a system call leaves. */
	if (vdso_function && (!bound || bound->tcs != (uint64_t)regs[REG_RBX]))
		return false;
	if (!bound || bound->tcs != (uint64_t)regs[REG_RBX])
		fail("TCS %#llx at the AEP, in a thread that has %#lx", regs[REG_RBX], bound ? bound->tcs : 0);
	for (size_t i = 0; i < sizeof(zero) / sizeof(zero[0]); i++)
		if (regs[zero[i]])
			fail("register %d is %#llx behind an asynchronous exit", zero[i], regs[zero[i]]);
	if (vdso_function)
		__atomic_store_n(&vdso_aep, (uint64_t)regs[REG_RIP], __ATOMIC_RELAXED);
	return true;
}

static void pass_on(int signo, siginfo_t *info, void *context)
{
	const struct sigaction *action = &before[signo];

	if (action->sa_flags & SA_SIGINFO) {
		action->sa_sigaction(signo, info, context);
	} else if (action->sa_handler == SIG_DFL) {
		signal(signo, SIG_DFL);
		raise(signo);
	} else if (action->sa_handler != SIG_IGN) {
		action->sa_handler(signo);
	}
}

static void on_exception(int signo, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct exception exception = {
		.signo = signo,
		.code = info->si_code,
		.vector = (uint64_t)regs[REG_TRAPNO],
		.error_code = (uint64_t)regs[REG_ERR],
		.address = (uint64_t)info->si_addr,
	};

	if (runtime_at_aep(regs)) {
		if (repair(bound, &exception))
			return;
	} else if (regs[REG_RIP] == (greg_t)enclu_enter && regs[REG_RAX] == LEAF_EENTER) {
		regs[REG_RIP] = (greg_t)enclu_refused;
		return;
	}
	pass_on(signo, info, context);
}

void runtime_start(const struct runtime_choice *choice)
{
	struct sigaction action = {
		.sa_sigaction = on_exception,
		.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART | (choice->onstack ? SA_ONSTACK : 0),
	};

	if (choice->vdso) {
		vdso_function = find_vdso_function("__vdso_sgx_enter_enclave");
		if (!vdso_function)
			fail("the vDSO has no function for enclaves");
	}
	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < (choice->vdso ? CAUGHT_WITH_VDSO : CAUGHT); i++) {
		handled[caught[i]] = true;
		if (sigaction(caught[i], &action, &before[caught[i]]))
			fail("sigaction: %m");
	}
}

void (*runtime_handler(int signo))(int, siginfo_t *, void *)
{
	return handled[signo] ? on_exception : NULL;
}

void runtime_bind(struct bound *self)
{
	__atomic_store_n(&bound, self, __ATOMIC_RELEASE);
}

struct bound *runtime_bound(void)
{
	return bound;
}
