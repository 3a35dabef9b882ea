// SPDX-License-Identifier: Apache-2.0
/*
 * The program's signal actions, masks and alternate stacks, as it believes them to be.
 *
 *  - A signal that is blocked, ignored or without a handler when the CPU or the filter raises it ends the process. So
 *    SIGSYS, and in an armed process every signal of an exception, is never really blocked: its bit is taken out of
 *    every mask that a call carries. What the program believes is kept for each thread (LogicalProcessor.blocked).
 *  - Actions that are kept here are in monitor_state.old_actions. The real action of an armed process is the
 *    monitor's where the program has a handler, and for every exception; else what the program asked for.
 *  - A vfork child shares this memory, but has actions of its own: what it changes is done for real, and not noted,
 *    except that an exception's stays ours.
 *  - The first filter lets queries of actions pass: posix_spawn makes 64. A program that has asked for a mask which it
 *    does not get has them trapped from then on.
 *  - rt_sigprocmask changes the frame, since the kernel puts the frame's mask in place when the handler returns.
 */
#include "supervised.h"

#include "sys.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#define STACK_ON 1u
#define STACK_DISABLE 2u
#define STACK_AUTODISARM (1u << 31)
#define SMALLEST_STACK 2048
#define FLAG_NOCLDSTOP 1ul
#define FLAG_NOCLDWAIT 2ul
#define UNCATCHABLE (SIGNAL_BIT(9) | SIGNAL_BIT(19))

uint64_t owned_signals;
/* What an unarmed program has asked to be blocked by its handlers, and is not. */
static uint64_t believed_masks[65];

uint64_t believed_mask(int signal)
{
	return believed_masks[signal];
}

struct mask_argument {
	uint64_t mask;
	uint64_t length;
};

uint64_t never_blocked(void)
{
	return target_state.armed ? SYNCHRONOUS : owned_signals;
}

static bool is_handled(const struct kernel_sigaction *action)
{
	return action->handler != SIG_DEFAULT && action->handler != SIG_IGNORE;
}

/* What the kernel is told for an action that an armed program asks for. */
static struct kernel_sigaction real_action(int signal, const struct kernel_sigaction *wanted)
{
	struct kernel_sigaction ours = monitor_action(wanted);

	/* The supervisor sends it, which a program without a handler must not notice. */
	if (signal == SIGNAL_SYS && !is_handled(wanted))
		ours.flags |= FLAG_RESTART;
	if (is_handled(wanted) || SYNCHRONOUS & SIGNAL_BIT(signal)) {
		ours.flags |= wanted->flags & (FLAG_NOCLDSTOP | FLAG_NOCLDWAIT);
		return ours;
	}
	return *wanted;
}

/* Make the kernel's action follow the one that is kept. */
void set_real_action(int signal)
{
	struct kernel_sigaction real = real_action(signal, &monitor_state.old_actions[signal]);

	sys_sigaction(signal, &real, NULL);
}

bool restarts(uint64_t blocked)
{
	uint64_t pending = 0;

	sys_call4(__NR_rt_sigpending, (long)&pending, SIGSET_BYTES, 0, 0);
	pending &= ~blocked;
	for (int signal = 1; signal <= 64; signal++)
		if (pending & SIGNAL_BIT(signal) && is_handled(&monitor_state.old_actions[signal]))
			return monitor_state.old_actions[signal].flags & FLAG_RESTART;
	return true;
}

bool is_vfork_child(void)
{
	return target_state.armed && (uint32_t)sys_getpid() != monitor_state.pid;
}

/* Have this process's queries of actions trapped, for good. A filter of its own may forbid it: then it reads less. */
static void trap_queries(void)
{
	static uint32_t done_by; /* a fork's child has the filter, a vfork's parent has not */
	const uint32_t mine = (uint32_t)sys_getpid();
	uint64_t start, length;

	if (done_by == mine || target_state.armed)
		return;
	image_code(&start, &length);
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 8),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_rt_sigaction, 0, 6),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)start, 0, 1),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)(start + length), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP | TRAP_DATA),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { .len = sizeof(filter) / sizeof(*filter), .filter = filter };

	if (sys_call4(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, (long)&program, 0))
		sys_call4(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program, 0);
	done_by = mine;
}

long signal_action(const registers_t *r)
{
	struct kernel_sigaction action = { 0 }, *kept;
	const uint64_t signal = r->rdi;
	const bool change = r->rsi;
	struct kernel_sigaction old, real;
	long result;

	if (r->r10 != SIGSET_BYTES)
		return ERROR_INVALID;
	if (change && copy_in(&action, r->rsi, sizeof(action)))
		return ERROR_FAULT;
	if (signal < 1 || signal > 64 || UNCATCHABLE & SIGNAL_BIT(signal))
		return sys_sigaction((int)signal, change ? &action : NULL, (void *)r->rdx);
	if (!(owned_signals & SIGNAL_BIT(signal))) {
		const uint64_t believed = action.mask & never_blocked();

		action.mask &= ~never_blocked();
		result = sys_sigaction((int)signal, change ? &action : NULL, &old);
		if (result)
			return result;
		old.mask |= believed_masks[signal];
		if (change)
			believed_masks[signal] = believed;
		if (believed)
			trap_queries();
		return r->rdx ? copy_out(r->rdx, &old, sizeof(old)) : 0;
	}
	kept = &monitor_state.old_actions[signal];
	old = *kept;
	action.mask &= ~UNCATCHABLE;
	if (change && is_vfork_child()) {
		real = real_action((int)signal, &action);
		sys_sigaction((int)signal, &real, NULL);
	} else if (change) {
		*kept = action;
		if (target_state.armed) {
			real = real_action((int)signal, &action);
			result = sys_sigaction((int)signal, &real, NULL);
			if (result) {
				*kept = old;
				return result;
			}
		}
	}
	return r->rdx ? copy_out(r->rdx, &old, sizeof(old)) : 0;
}

static uint8_t *kept_info(lp_t *lp, int signal)
{
	uint32_t place = 0;

	for (int n = 1; n < signal; n++)
		place += (SYNCHRONOUS & SIGNAL_BIT(n)) != 0;
	return lp->kept_info + place * sizeof(struct kernel_siginfo);
}

bool keep_signal(int signal, const struct kernel_siginfo *info, lp_t *lp)
{
	if (!(lp->blocked & ~lp->admitted & SIGNAL_BIT(signal)))
		return false;
	if (!(lp->kept & SIGNAL_BIT(signal)))
		copy_bytes(kept_info(lp, signal), info, sizeof(*info));
	lp->kept |= SIGNAL_BIT(signal);
	return true;
}

/* Send kept signals again, as they were; they come when this handler has returned. */
static void raise_kept(lp_t *lp, uint64_t signals)
{
	lp->kept &= ~signals;
	for (int signal = 1; signal <= 64; signal++)
		if (signals & SIGNAL_BIT(signal))
			sys_call4(__NR_rt_tgsigqueueinfo, sys_getpid(), sys_gettid(), signal,
				  (long)kept_info(lp, signal));
}

long pending_signals(const registers_t *r, const lp_t *lp)
{
	uint64_t set = 0;

	if (r->rsi > SIGSET_BYTES)
		return ERROR_INVALID;
	sys_call4(__NR_rt_sigpending, (long)&set, SIGSET_BYTES, 0, 0);
	set |= lp ? lp->kept : 0;
	return copy_out(r->rdi, &set, r->rsi);
}

bool wait_for_kept(const registers_t *r, lp_t *lp, long *result)
{
	uint64_t set = 0;

	if (!lp || r->r10 != SIGSET_BYTES || copy_in(&set, r->rdi, sizeof(set)))
		return false;
	for (int signal = 1; signal <= 64; signal++) {
		if (!(set & lp->kept & SIGNAL_BIT(signal)))
			continue;
		*result = signal;
		if (r->rsi && copy_out(r->rsi, kept_info(lp, signal), sizeof(struct kernel_siginfo)))
			*result = ERROR_FAULT;
		else
			lp->kept &= ~SIGNAL_BIT(signal);
		return true;
	}
	return false;
}

void signal_return_call(registers_t *r, lp_t *lp)
{
	/* The frame begins where the return address was. */
	const uint64_t at = r->rsp + offsetof(struct kernel_ucontext, signal_mask);
	uint64_t mask;

	if (!copy_in(&mask, at, sizeof(mask))) {
		const uint64_t never = never_blocked();

		if (lp) {
			lp->blocked = mask & never;
			raise_kept(lp, lp->kept & ~lp->blocked);
		}
		mask &= ~never;
		copy_out(at, &mask, sizeof(mask));
	}
	r->rip = (uint64_t)signal_return;
}

long signal_mask(const registers_t *r, lp_t *lp, struct kernel_ucontext *uc)
{
	const uint64_t never = never_blocked();
	const uint64_t old = uc->signal_mask | (lp ? lp->blocked : 0);
	uint64_t set = 0, now;

	if (r->r10 != SIGSET_BYTES)
		return ERROR_INVALID;
	if (r->rsi) {
		if (copy_in(&set, r->rsi, sizeof(set)))
			return ERROR_FAULT;
		switch ((uint32_t)r->rdi) {
		case MASK_BLOCK:
			now = old | set;
			break;
		case MASK_UNBLOCK:
			now = old & ~set;
			break;
		case MASK_SET:
			now = set;
			break;
		default:
			return ERROR_INVALID;
		}
		now &= ~UNCATCHABLE;
		if (!lp && now & never && target_state.armed && !is_vfork_child())
			lp = attach_in_frame(uc);
		uc->signal_mask = now & ~never;
		if (lp) {
			lp->blocked = now & never;
			raise_kept(lp, lp->kept & ~lp->blocked);
		}
	}
	return r->rdx ? copy_out(r->rdx, &old, sizeof(old)) : 0;
}

/* sigaltstack(2). A thread whose real one is the monitor's has it noted; else it is done, and noted in the frame. */
long alternate_stack(const registers_t *r, lp_t *lp, struct kernel_ucontext *uc)
{
	struct kernel_stack *kept = lp ? (struct kernel_stack *)lp->old_stack : &uc->stack;
	struct kernel_stack wanted, old = *kept;
	const bool inside = !(kept->flags & STACK_DISABLE) && uc->registers.rsp - kept->sp - 1 < kept->size;
	long result;

	if (r->rdi) {
		if (copy_in(&wanted, r->rdi, sizeof(wanted)))
			return ERROR_FAULT;
		if (inside && !(kept->flags & STACK_AUTODISARM))
			return ERROR_PERMITTED;
		if (wanted.flags & ~(STACK_AUTODISARM | STACK_DISABLE | STACK_ON) ||
		    (wanted.flags & STACK_DISABLE && wanted.flags & STACK_ON))
			return ERROR_INVALID;
		if (wanted.flags & STACK_DISABLE)
			wanted.sp = wanted.size = 0;
		else if (wanted.size < SMALLEST_STACK)
			return ERROR_NO_MEMORY;
		wanted.flags &= ~STACK_ON;
		*kept = wanted;
		if (!lp && (result = sys_sigaltstack_in_use(kept))) {
			*kept = old;
			return result;
		}
	}
	if (!r->rsi)
		return 0;
	old.flags |= !(old.flags & STACK_DISABLE) && inside ? STACK_ON : 0;
	old.pad = 0;
	return copy_out(r->rsi, &old, sizeof(old));
}

/* The address of the mask that a waiting call carries: 0 for none, or an error. */
static long mask_of_call(const registers_t *r, uint64_t *pointer, uint64_t *length)
{
	struct mask_argument argument = { 0 };

	*length = SIGSET_BYTES;
	switch (r->rax) {
	case __NR_rt_sigsuspend:
		*pointer = r->rdi;
		return 0;
	case __NR_ppoll:
		*pointer = r->r10;
		return 0;
	case __NR_pselect6:
		if (copy_in(&argument, r->r9, sizeof(argument)))
			return ERROR_FAULT;
		*pointer = argument.mask;
		*length = argument.length;
		return 0;
	default: /* epoll_pwait, epoll_pwait2 */
		*pointer = r->r8;
		return 0;
	}
}

static long call_with(const registers_t *r, uint64_t set, uint64_t argument)
{
	switch (r->rax) {
	case __NR_rt_sigsuspend:
		return sys_call4((long)r->rax, (long)set, (long)r->rsi, 0, 0);
	case __NR_ppoll:
		return sys_call6((long)r->rax, (long)r->rdi, (long)r->rsi, (long)r->rdx, (long)set, (long)r->r8, 0);
	case __NR_pselect6:
		return sys_call6((long)r->rax, (long)r->rdi, (long)r->rsi, (long)r->rdx, (long)r->r10, (long)r->r8,
				 (long)argument);
	default:
		return sys_call6((long)r->rax, (long)r->rdi, (long)r->rsi, (long)r->rdx, (long)r->r10, (long)set,
				 (long)r->r9);
	}
}

/*
 * A wait with a mask: the same call, with a mask that lacks what must never be blocked. Made here by an unarmed
 * process; by an armed one behind the handler, with the mask in the call's frame. Then the result is not yet known.
 */
long set_blocked_by_call(const registers_t *r, lp_t *lp, bool armed, struct kernel_ucontext *uc)
{
	struct mask_argument argument = { 0 };
	struct call_frame *frame = (struct call_frame *)uc->registers.rsp;
	uint64_t pointer, length, set = 0;
	long result = mask_of_call(r, &pointer, &length);

	if (result)
		return result;
	if (pointer && copy_in(&set, pointer, sizeof(set)))
		return ERROR_FAULT;
	if (pointer && lp) {
		lp->admitted = lp->blocked & ~set;
		if (lp->kept & ~set) {
			raise_kept(lp, lp->kept & ~set);
			return ERROR_INTERRUPTED;
		}
	}
	set &= ~never_blocked();
	if (!armed) {
		argument = (struct mask_argument){ pointer ? (uint64_t)&set : 0, length };
		return call_with(r, argument.mask, (uint64_t)&argument);
	}
	frame->set = set;
	frame->pointer = pointer ? (uint64_t)&frame->set : 0;
	frame->length = length;
	switch (r->rax) {
	case __NR_rt_sigsuspend:
		uc->registers.rdi = frame->pointer;
		break;
	case __NR_ppoll:
		uc->registers.r10 = frame->pointer;
		break;
	case __NR_pselect6:
		uc->registers.r9 = (uint64_t)&frame->pointer;
		break;
	default:
		uc->registers.r8 = frame->pointer;
		break;
	}
	return 0;
}
