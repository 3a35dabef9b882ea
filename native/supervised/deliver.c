// SPDX-License-Identifier: Apache-2.0
/*
 * Giving a signal to the program's own handler, on the program's own stack, as the kernel would have done.
 *
 * The kernel's frame lies where our handler runs: on the monitor's alternate stack for a thread that enters enclaves.
 * A copy of it is made where the kernel would have put it for the program, and our own frame is changed so that its
 * return starts the handler. Then the handler may do what it likes: enter enclaves, take further signals, siglongjmp.
 *
 * What was learnt:
 *  - rt_sigreturn takes the alternate stack from the frame: the copy keeps ours.
 *  - the copy must have XSAVE's software bytes and the magic number behind the image, and the image 64-byte aligned.
 *  - a handler starts with initial vector state: XSTATE_BV 0, and MXCSR, which XRSTOR takes from memory all the same.
 *  - the stack may have to grow, which only the kernel can do for a store of the kernel: a call that writes probes it.
 *  - where the kernel has chosen the very stack already (a thread that did not have the monitor's), its frame is the
 *    program's, and the handler is simply started on it. A copy would lie where our own stack is.
 *  - a handler's end brings back the alternate stack of its frame. So a thread whose handlers run has the monitor's
 *    from its first signal on, or it would lose it when it enters an enclave in a handler for the first time.
 */
#include "supervised.h"

#include "sys.h"

#define RED_ZONE 128
#define MAGIC_BYTES 4
#define FX_MAGIC 0x46505853u
#define RFLAGS_DF 0x400ul
#define STACK_DISABLE 2u
#define STACK_AUTODISARM (1u << 31)
#define SIGINFO_BYTES 128
#define MXCSR_AT 24
#define MXCSR_INITIAL 0x1f80u
#define XSAVE_HEADER 512

/* The kernel's struct rt_sigframe. */
struct signal_frame {
	uint64_t back;
	struct kernel_ucontext context;
	struct kernel_siginfo info;
};
_Static_assert(sizeof(struct kernel_siginfo) == SIGINFO_BYTES, "siginfo");

static bool on_stack(const struct kernel_stack *stack, uint64_t rsp)
{
	return !(stack->flags & STACK_DISABLE) && rsp - stack->sp - 1 < stack->size;
}

/* Whether the bytes below "top" can be written; the stack grows if it must. */
static bool probe(uint64_t low, uint64_t top)
{
	for (uint64_t at = (top - 8) & ~7ul; at >= low; at -= PAGE_BYTES) {
		if (sys_sigprocmask(MASK_BLOCK, NULL, (uint64_t *)at))
			return false;
		if (at < PAGE_BYTES)
			return false;
	}
	return !sys_sigprocmask(MASK_BLOCK, NULL, (uint64_t *)((low + 7) & ~7ul));
}

static uint32_t fpstate_bytes(const uint8_t *fpstate)
{
	const uint32_t *software = (const uint32_t *)(fpstate + 464);

	return software[0] == FX_MAGIC ? software[1] : 512;
}

/* The default action, now: the process ends with this signal, or a fault happens again and ends it. */
static void end_by(int signal, struct kernel_ucontext *uc, bool again)
{
	const struct kernel_sigaction fallback = { .handler = SIG_DEFAULT };

	sys_sigaction(signal, &fallback, NULL);
	uc->signal_mask &= ~SIGNAL_BIT(signal);
	if (!again)
		sys_tgkill(sys_getpid(), sys_gettid(), signal);
}

void deliver(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc, bool again)
{
	struct kernel_sigaction *kept = &monitor_state.old_actions[signal];
	const struct kernel_sigaction action = *kept;
	registers_t *regs = &uc->registers;
	lp_t *lp = lp_of_stack(&uc->stack);
	const struct kernel_stack *alternate;
	const bool exception = info->code > 0 && SYNCHRONOUS & SIGNAL_BIT(signal);
	const uint64_t handler_mask =
		(uc->signal_mask | action.mask | (action.flags & FLAG_NODEFER ? 0 : SIGNAL_BIT(signal))) &
		~never_blocked();
	struct signal_frame *frame;
	uint64_t rsp, fpstate = 0;
	uint64_t believed;
	bool on_ours;
	uint32_t length;

	if (action.handler == SIG_IGNORE && !exception)
		return;
	if (!exception && lp && keep_signal(signal, info, lp))
		return;
	if (action.handler == SIG_DEFAULT || action.handler == SIG_IGNORE ||
	    (exception && lp && lp->blocked & SIGNAL_BIT(signal))) {
		end_by(signal, uc, again);
		return;
	}
	if (action.flags & FLAG_RESETHAND) {
		kept->handler = SIG_DEFAULT;
		set_real_action(signal);
	}
	if (!lp && !is_vfork_child())
		lp = attach_in_frame(uc);
	alternate = lp ? (const struct kernel_stack *)lp->old_stack : &uc->stack;
	believed = uc->signal_mask | (lp ? lp->blocked : 0);
	if (lp)
		lp->blocked |= (action.mask | (action.flags & FLAG_NODEFER ? 0 : SIGNAL_BIT(signal))) & never_blocked();
	on_ours = lp && on_stack(&uc->stack, (uint64_t)info);
	rsp = regs->rsp - RED_ZONE;
	if (action.flags & FLAG_ONSTACK && !(alternate->flags & STACK_DISABLE) && alternate->size &&
	    !on_stack(alternate, regs->rsp)) {
		rsp = alternate->sp + alternate->size;
	}
	if (!on_ours && on_stack(alternate, (uint64_t)info) == on_stack(alternate, rsp)) {
		/* info is in the kernel's frame, behind the context. */
		frame = (struct signal_frame *)((uint64_t)info - offsetof(struct signal_frame, info));
		frame->back = action.restorer;
		uc->signal_mask = believed;
		sys_sigprocmask(MASK_SET, &handler_mask, NULL);
		start_handler((uint64_t)signal, info, uc, action.handler, frame);
	}
	length = uc->fpstate ? fpstate_bytes(uc->fpstate) : 0;
	if (length)
		fpstate = (rsp - length) & ~63ul;
	frame = (struct signal_frame *)((((length ? fpstate : rsp) - sizeof(*frame)) & ~15ul) - 8);
	if (!probe((uint64_t)frame, rsp)) {
		end_by(SIGNAL_SEGV, uc, false);
		return;
	}
	if (length)
		copy_bytes((void *)fpstate, uc->fpstate, length);
	frame->back = action.restorer;
	copy_bytes(&frame->context, uc, sizeof(frame->context));
	copy_bytes(&frame->info, info, sizeof(frame->info));
	frame->context.signal_mask = believed;
	frame->context.fpstate = (uint8_t *)fpstate;
	frame->context.link = 0;

	if (length > XSAVE_HEADER)
		*(uint64_t *)(uc->fpstate + XSAVE_HEADER) = 0;
	if (length)
		*(uint32_t *)(uc->fpstate + MXCSR_AT) = MXCSR_INITIAL;
	regs->rdi = (uint64_t)signal;
	regs->rsi = (uint64_t)&frame->info;
	regs->rdx = (uint64_t)&frame->context;
	regs->rax = 0;
	regs->rip = action.handler;
	regs->rsp = (uint64_t)frame;
	regs->rflags &= ~(RFLAGS_DF | RFLAGS_RF | RFLAGS_TF);
	uc->signal_mask = handler_mask;
	if (alternate->flags & STACK_AUTODISARM && lp)
		((struct kernel_stack *)lp->old_stack)->flags = STACK_DISABLE;
}
