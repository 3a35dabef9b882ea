// SPDX-License-Identifier: Apache-2.0
/*
 * System calls that the supervisor's filter traps (RET_TRAP): SIGSYS comes, the call is looked at here, in the
 * program's own process, and made again from this image, whose calls the filter lets through.
 *
 * What was learnt, and what this file relies on:
 *  - SIGSYS that is blocked, ignored or without a handler ends the process. So the program never really blocks or
 *    changes it: its bit is taken out of every mask that a call carries (rt_sigprocmask, rt_sigaction, sigsuspend,
 *    and the waits with a mask), and its action is kept here. The program sees its own action, but not its own bit.
 *  - UNBLOCK and calls without a mask pass the filter: they cannot do harm.
 *  - the kernel puts the mask of the frame in place when the handler returns, so rt_sigprocmask changes the frame.
 *  - the handler has an empty mask and SA_NODEFER: a call made again here may block, and the program's own handlers may
 *    run on top, make trapped calls, and leave by siglongjmp. Nothing is locked, nothing left half done.
 *  - SA_ONSTACK: Go's stacks are too small for a frame. Without an alternate stack the program's is used, below the
 *    red zone.
 *  - a vfork child shares this memory. It changes only the kept action of SIGSYS, which a spawning libc resets.
 *  - program memory is read by process_vm_readv, so that a bad pointer is EFAULT and no fault.
 */
#include "signal.h"

#include "sys.h"
#include "vdso.h"

#define SIGSYS_BIT (1ul << (SIGNAL_SYS - 1))
#define CODE_SECCOMP 1
#define TRAP_DATA 0x5357 /* what our filter returns beside RET_TRAP; Python's seccomp.py has the same */
#define SIGSET_BYTES 8
#define ERROR_INVALID (-22l)
#define ERROR_FAULT (-14l)

void supervised_prepare(uint64_t *stack);
extern const char supervised_restorer[] __attribute__((visibility("hidden")));

struct io_vector {
	uint64_t base;
	uint64_t length;
};

struct mask_argument {
	uint64_t mask;
	uint64_t length;
};

/* The program's own action for SIGSYS. */
static struct kernel_sigaction own_action;

static long copy_in(void *to, uint64_t from, uint64_t length)
{
	struct io_vector ours = { (uint64_t)to, length }, theirs = { from, length };
	long copied = sys_call6(__NR_process_vm_readv, sys_getpid(), (long)&ours, 1, (long)&theirs, 1, 0);

	return copied == (long)length ? 0 : ERROR_FAULT;
}

static long copy_out(uint64_t to, const void *from, uint64_t length)
{
	struct io_vector ours = { (uint64_t)from, length }, theirs = { to, length };
	long copied = sys_call6(__NR_process_vm_writev, sys_getpid(), (long)&ours, 1, (long)&theirs, 1, 0);

	return copied == (long)length ? 0 : ERROR_FAULT;
}

static long again(const registers_t *r, uint64_t rdi, uint64_t rsi, uint64_t rdx, uint64_t r10, uint64_t r8,
		  uint64_t r9)
{
	return sys_call6((long)r->rax, (long)rdi, (long)rsi, (long)rdx, (long)r10, (long)r8, (long)r9);
}

static long signal_action(const registers_t *r)
{
	struct kernel_sigaction action = { 0 };
	const struct kernel_sigaction old = own_action;
	bool change = r->rsi;

	if (r->r10 != SIGSET_BYTES)
		return ERROR_INVALID;
	if (change && copy_in(&action, r->rsi, sizeof(action)))
		return ERROR_FAULT;
	action.mask &= ~SIGSYS_BIT;
	if (r->rdi != SIGNAL_SYS)
		return again(r, r->rdi, change ? (uint64_t)&action : 0, r->rdx, r->r10, 0, 0);
	if (change)
		own_action = action;
	return r->rdx ? copy_out(r->rdx, &old, sizeof(old)) : 0;
}

static long signal_mask(const registers_t *r, struct kernel_ucontext *uc)
{
	const uint64_t old = uc->signal_mask;
	uint64_t set = 0;

	if (r->r10 != SIGSET_BYTES)
		return ERROR_INVALID;
	if (copy_in(&set, r->rsi, sizeof(set)))
		return ERROR_FAULT;
	set &= ~SIGSYS_BIT;
	if (r->rdi == MASK_BLOCK)
		uc->signal_mask = old | set;
	else if (r->rdi == MASK_SET)
		uc->signal_mask = set;
	else
		return ERROR_INVALID;
	return r->rdx ? copy_out(r->rdx, &old, sizeof(old)) : 0;
}

/* A wait with a mask: the call again, with a mask that lacks SIGSYS. */
static long wait_with_mask(const registers_t *r)
{
	struct mask_argument argument;
	uint64_t set, pointer;

	switch (r->rax) {
	case __NR_rt_sigsuspend:
		pointer = r->rdi;
		break;
	case __NR_ppoll:
		pointer = r->r10;
		break;
	case __NR_pselect6:
		if (copy_in(&argument, r->r9, sizeof(argument)))
			return ERROR_FAULT;
		pointer = argument.mask;
		break;
	default: /* epoll_pwait, epoll_pwait2 */
		pointer = r->r8;
		break;
	}
	if (pointer) {
		if (copy_in(&set, pointer, sizeof(set)))
			return ERROR_FAULT;
		set &= ~SIGSYS_BIT;
		pointer = (uint64_t)&set;
	}
	switch (r->rax) {
	case __NR_rt_sigsuspend:
		return again(r, pointer, r->rsi, 0, 0, 0, 0);
	case __NR_ppoll:
		return again(r, r->rdi, r->rsi, r->rdx, pointer, r->r8, 0);
	case __NR_pselect6:
		argument.mask = pointer;
		return again(r, r->rdi, r->rsi, r->rdx, r->r10, r->r8, (uint64_t)&argument);
	default:
		return again(r, r->rdi, r->rsi, r->rdx, r->r10, pointer, r->r9);
	}
}

/* A SIGSYS that is none of ours: sent by somebody, or from a filter of the program's own. */
static void own_signal(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	const struct kernel_sigaction fallback = { .handler = SIG_DEFAULT };

	if (own_action.handler == SIG_IGNORE && info->code <= 0)
		return;
	if (own_action.handler == SIG_DEFAULT || own_action.handler == SIG_IGNORE) {
		sys_sigaction(signal, &fallback, NULL);
		sys_tgkill(sys_getpid(), sys_gettid(), signal);
		return;
	}
	((void (*)(int, struct kernel_siginfo *, struct kernel_ucontext *))own_action.handler)(signal, info, uc);
}

static void trapped(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	registers_t *r = &uc->registers;
	long result;

	if (info->code != CODE_SECCOMP || info->error != TRAP_DATA) {
		own_signal(signal, info, uc);
		return;
	}
	switch (r->rax) {
	case __NR_rt_sigaction:
		result = signal_action(r);
		break;
	case __NR_rt_sigprocmask:
		result = signal_mask(r, uc);
		break;
	case __NR_rt_sigsuspend:
	case __NR_ppoll:
	case __NR_pselect6:
	case __NR_epoll_pwait:
	case __NR_epoll_pwait2:
		result = wait_with_mask(r);
		break;
	default: /* a path call */
		result = again(r, r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
		break;
	}
	r->rax = (uint64_t)result;
}

/* start.S, before the program's first instruction, with its stack as exec left it. */
void supervised_prepare(uint64_t *stack)
{
	const struct kernel_sigaction ours = {
		.handler = (uint64_t)trapped,
		.flags = FLAG_SIGINFO | FLAG_ONSTACK | FLAG_NODEFER | FLAG_RESTART | FLAG_RESTORER,
		.restorer = (uint64_t)supervised_restorer,
	};
	uint64_t set = SIGSYS_BIT;

	vdso_prepare(stack);
	own_action.handler = SIG_DEFAULT;
	sys_sigaction(SIGNAL_SYS, &ours, NULL);
	sys_sigprocmask(1, &set, NULL);
}
