// SPDX-License-Identifier: Apache-2.0
/*
 * Signals: every exception inside an enclave, and every interruption of one, comes here.
 *
 * What was learnt about signals, and what this file relies on:
 *  - inside an enclave RSP, FS and GS are the enclave's. The handler runs on the thread's alternate stack,
 *    which lies in the block of its LogicalProcessor; uc_stack in the frame says which block. A thread that
 *    never entered an enclave has no block: its signals go straight to the program's handler.
 *  - the frame holds neither FS nor GS base: the handler changes them with WRFSBASE and WRGSBASE, and they
 *    stay changed when it returns.
 *  - a signal can arrive anywhere in enclu.S. Before LogicalProcessor.record is set the thread is outside and
 *    nothing need be done. Between that and the jump into the enclave, the entry is completed in the frame;
 *    on the way out, the exit is. So the rest of the handler sees a thread that is inside, or outside.
 *  - all signals are blocked while this handler runs, and the program's own mask is put in place before its
 *    handler is called.
 *  - a fault that nobody handles is given back its default action and happens again, so that the process dies
 *    where it would have died, with the right core.
 */
#include "signal.h"

#include "sys.h"

static bool within(uint64_t address, const char *begin, const char *end)
{
	return address - (uint64_t)begin < (uint64_t)end - (uint64_t)begin;
}

static lp_t *lp_of_frame(const struct kernel_ucontext *uc)
{
	uint64_t offset = uc->stack.sp - LP_STACK_OFFSET - monitor_state.lps;
	lp_t *lp;

	if (offset >= (uint64_t)LP_COUNT * LP_SIZE || offset & (LP_SIZE - 1))
		return NULL;
	lp = (lp_t *)(monitor_state.lps + offset);
	return lp->attached ? lp : NULL;
}

/*
 * The signal came between the commit of the fast path and its jump: do the rest in the frame. A single step
 * shows here first: TF is put aside until the exit, as EENTER does for an opt-out entry.
 */
static void complete_fast_entry(lp_t *lp, registers_t *regs)
{
	record_t *record = (record_t *)lp->record;
	const uint64_t *pushed = (const uint64_t *)(lp->enter_rsp - ENTER_RED_ZONE);
	uint64_t lahf = pushed[-4];

	record->host_rflags = regs->rflags & RFLAGS_TF;
	regs->rflags = (regs->rflags & ~(RFLAGS_TF | LAHF_FLAGS | RFLAGS_OF)) | (lahf >> 8 & LAHF_FLAGS) |
		       (lahf & 1 ? RFLAGS_OF : 0);
	regs->rdx = pushed[-1];
	regs->rsi = pushed[-2];
	regs->rdi = pushed[-3];
	regs->rax = record->cssa;
	regs->rcx = record->aep + AEP_BYTES;
	regs->rsp = lp->enter_rsp;
	regs->rip = record->entry;
	lp->selector = SYSCALL_DISPATCH_FILTER_BLOCK;
	load_bases(record);
}

static void complete_slow_entry(lp_t *lp, registers_t *regs, uint8_t *fpstate)
{
	const record_t *record = (const record_t *)lp->record;
	const head_t *head = (const head_t *)record->head;

	copy_bytes(regs, (const void *)lp->pending, sizeof(*regs));
	if (lp->pending_xstate)
		xstate_copy(fpstate, (const uint8_t *)lp->pending_xstate, head->xfrm, ~0ul);
	lp->selector = SYSCALL_DISPATCH_FILTER_BLOCK;
	load_bases(record);
}

/*
 * Roll a half-done entry or exit forward. Afterwards lp->record tells whether the thread is inside. True: the signal
 * was the transition's own and is dealt with: the exit stub's HLT, or the single step that TF brings to an entry.
 */
static bool settle(lp_t *lp, struct kernel_ucontext *uc)
{
	const record_t *record = (const record_t *)lp->record;
	registers_t *regs = &uc->registers;

	if (record) {
		const slot_t *slot = (const slot_t *)record->slot;

		if (within(regs->rip, enter_fast_begin, enter_fast_end)) {
			complete_fast_entry(lp, regs);
			return uc->trap_number == VECTOR_DB;
		}
		if (within(regs->rip, enter_slow_begin, enter_slow_end)) {
			complete_slow_entry(lp, regs, uc->fpstate);
			return false;
		}
		if (regs->rip - slot->exit_stub < (uint64_t)(exit_stub_end - exit_stub_begin)) {
			leave_enclave(lp, regs);
			return uc->trap_number == VECTOR_GP;
		}
		if (within(regs->rip, exit_common, exit_cleared_0))
			leave_enclave(lp, regs);
		return false;
	}
	if (!within(regs->rip, exit_cleared_0, exit_end))
		return false;
	/* LogicalProcessor.record is cleared, TCS.STATE perhaps not yet. */
	if (within(regs->rip, exit_cleared_0, exit_cleared_2)) {
		record = (const record_t *)regs->rcx;
		regs->rax = record->tcs_page;
		regs->rcx = record->aep;
	}
	if (within(regs->rip, exit_cleared_0, exit_released))
		__atomic_store_n(&((struct sgx_tcs *)regs->rax)->state, 0, __ATOMIC_RELEASE);
	regs->rax = ENCLU_EEXIT;
	regs->rip = regs->rbx;
	return false;
}

/*
 * ENCLU, or what patch_exit_site() made of it. The bytes can be read, since they were fetched: #UD and #GP come
 * after the fetch. (Not so where a branch to a non-canonical address leaves RIP there.)
 */
static bool at_enclu(const struct kernel_ucontext *uc)
{
	const registers_t *regs = &uc->registers;
	const uint8_t *code = (const uint8_t *)regs->rip;

	if (uc->trap_number != VECTOR_UD && uc->trap_number != VECTOR_GP)
		return false;
	if (!canonical(regs->rip) || (regs->rip & (PAGE_BYTES - 1)) > PAGE_BYTES - 3)
		return false;
	return code[0] == (uc->trap_number == VECTOR_UD ? 0x0f : 0xf4) && code[1] == 0x01 && code[2] == 0xd7;
}

static bool is_exception(int signal, const struct kernel_siginfo *info)
{
	switch (signal) {
	case SIGNAL_ILL:
	case SIGNAL_TRAP:
	case SIGNAL_BUS:
	case SIGNAL_FPE:
	case SIGNAL_SEGV:
	case SIGNAL_SYS: /* inside an enclave; outside, seccomp's are the program's own */
		return info->code > 0;
	default:
		return false;
	}
}

/* An ENCLU inside an enclave. True: EEXIT, done. False: "why" is the exception it raises. */
static bool enclu_inside(lp_t *lp, registers_t *regs, struct refusal *why)
{
	slot_t *slot = (slot_t *)((record_t *)lp->record)->slot;
	uint32_t leaf = (uint32_t)regs->rax;

	switch (leaf) {
	case ENCLU_EEXIT:
		if (!canonical(regs->rbx))
			return refuse(why, CHECK_EXIT_TARGET_CANONICAL, VECTOR_GP, 0, 0, 0, regs->rbx);
		patch_exit_site(slot, regs->rip);
		leave_enclave(lp, regs);
		return true;
	case ENCLU_EENTER:
	case ENCLU_ERESUME:
		return refuse(why, CHECK_LEAF_WRONG_SIDE, VECTOR_GP, 0, 0, 0, leaf);
	case ENCLU_EREPORT:
	case ENCLU_EGETKEY:
	case ENCLU_EACCEPT:
	case ENCLU_EMODPE:
	case ENCLU_EACCEPTCOPY:
		return refuse(why, CHECK_LEAF_NOT_MODELLED, VECTOR_GP, 0, 0, 0, leaf);
	default:
		return refuse(why, CHECK_LEAF_UNKNOWN, VECTOR_GP, 0, 0, 0, leaf);
	}
}

/* Which exception the machine would have raised inside, from what the host raised. */
static void classify(lp_t *lp, int signal, struct kernel_ucontext *uc, struct refusal *why)
{
	const record_t *record = (const record_t *)lp->record;
	const slot_t *slot = (const slot_t *)record->slot;
	registers_t *regs = &uc->registers;
	bool page_fault = signal != SIGNAL_SYS && uc->trap_number == VECTOR_PF;

	if (signal == SIGNAL_SYS) {
		/* SYSCALL, caught by the dispatcher before it did anything but change RCX and R11. */
		regs->rip -= SYSCALL_BYTES;
		refuse(why, CHECK_ILLEGAL_INSTRUCTION, VECTOR_UD, 0, 0, 0, 0);
	} else if (regs->rip - slot->base >= slot->size) {
		/* Hardware faults on the fetch itself, wherever the branch led. */
		refuse(why, CHECK_FETCH_OUTSIDE, VECTOR_GP, 0, 0, slot->size, regs->rip);
	} else if (page_fault && uc->cr2 - slot->base < slot->size) {
		explain_page_fault(slot, uc->cr2, uc->error_code, why);
	} else if (page_fault) {
		refuse(why, CHECK_OUTSIDE_ELRANGE, VECTOR_PF, uc->error_code, uc->cr2, 0, 0);
	} else if (uc->trap_number == VECTOR_GP && illegal_inside(regs)) {
		refuse(why, CHECK_ILLEGAL_INSTRUCTION, VECTOR_UD, 0, 0, 0, 0);
	} else if (uc->trap_number == VECTOR_BP) {
		/* A fault inside an enclave, and #BP only for an opt-in entry (SDM, "INT3 Behavior Inside an Enclave"). */
		bool opted_in = ((const struct sgx_tcs *)record->tcs_page)->flags & TCS_FLAG_DBGOPTIN;

		regs->rip -= INT3_BYTES;
		refuse(why, opted_in ? CHECK_EXCEPTION : CHECK_ILLEGAL_INSTRUCTION, opted_in ? VECTOR_BP : VECTOR_UD,
		       0, 0, 0, 0);
	} else {
		refuse(why, CHECK_EXCEPTION, (uint32_t)uc->trap_number, 0, 0, 0, 0);
	}
}

/* Give a signal to whoever handled it before the monitor came. */
static void chain(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	struct kernel_sigaction *old = &monitor_state.old_actions[signal];
	uint64_t handler = old->handler;
	uint64_t mask = uc->signal_mask | old->mask;

	if (handler == SIG_DEFAULT || handler == SIG_IGNORE) {
		struct kernel_sigaction fallback = { .handler = SIG_DEFAULT };

		if (handler == SIG_IGNORE && !is_exception(signal, info))
			return;
		sys_sigaction(signal, &fallback, NULL);
		if (!is_exception(signal, info))
			sys_tgkill(sys_getpid(), sys_gettid(), signal);
		return; /* an exception happens again, now with its default action */
	}
	if (!(old->flags & FLAG_NODEFER))
		mask |= 1ul << (signal - 1);
	if (old->flags & FLAG_RESETHAND)
		old->handler = SIG_DEFAULT;
	sys_sigprocmask(MASK_SET, &mask, NULL);
	((void (*)(int, struct kernel_siginfo *, struct kernel_ucontext *))handler)(signal, info, uc);
}

/* An exception inside: AEX, then the vDSO's fixup or the program's handler, which sees RIP = AEP. */
static void exception_inside(lp_t *lp, int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc,
			     const struct refusal *why)
{
	registers_t *regs = &uc->registers;
	uint64_t page = why->vector == VECTOR_PF ? why->address & ~(PAGE_BYTES - 1) : 0;

	remember(lp, why);
	lp->rip = regs->rip;
	asynchronous_exit(lp, regs, uc->fpstate, why);
	if (regs->rip == (uint64_t)enter_aep && why->vector != VECTOR_BP && why->vector != VECTOR_DB) {
		divert_to_fixup(regs, why);
		return;
	}
	uc->trap_number = why->vector;
	uc->error_code = why->error_code;
	if (why->vector == VECTOR_PF) {
		uc->cr2 = page;
		info->address = page;
	}
	chain(signal, info, uc);
}

/* An ENCLU of the program's own, outside: EENTER or ERESUME. True: inside now. */
static bool enclu_outside(lp_t *lp, struct kernel_ucontext *uc)
{
	registers_t *regs = &uc->registers;
	uint32_t leaf = (uint32_t)regs->rax;
	uint64_t site = regs->rip;
	struct refusal why;
	record_t *record = NULL;

	if (leaf == ENCLU_EENTER || leaf == ENCLU_ERESUME)
		record = enter_enclave(lp, regs, site + ENCLU_BYTES, (uint8_t *)lp + LP_XSTATE_OFFSET, &why);
	else
		refuse(&why, CHECK_LEAF_WRONG_SIDE, VECTOR_GP, 0, 0, 0, leaf);
	if (!record) {
		remember(lp, &why);
		lp->rip = 0;
		uc->trap_number = why.vector;
		uc->error_code = why.error_code;
		uc->cr2 = why.address;
		return false;
	}
	if (uc->trap_number == VECTOR_UD && ((const slot_t *)record->slot)->flags & SLOT_PATCH)
		patch_enclu_site(site);
	lp->record = (uint64_t)record;
	if (leaf == ENCLU_ERESUME) {
		const head_t *head = (const head_t *)record->head;

		xstate_copy(uc->fpstate, (uint8_t *)lp + LP_XSTATE_OFFSET, head->xfrm, ~0ul);
	}
	lp->selector = SYSCALL_DISPATCH_FILTER_BLOCK;
	load_bases(record);
	return true;
}

/* A single step of an opt-out enclave: the enclave looks like one instruction, so TF waits for the exit. */
static bool step_inside(const lp_t *lp, int signal, const struct kernel_siginfo *info, registers_t *regs)
{
	record_t *record = (record_t *)lp->record;

	if (signal != SIGNAL_TRAP || info->code != TRAP_TRACE)
		return false;
	if (((const struct sgx_tcs *)record->tcs_page)->flags & TCS_FLAG_DBGOPTIN)
		return false;
	regs->rflags &= ~RFLAGS_TF;
	return true;
}

/* To code inside one enclave, another one is as far away as to the host. */
static bool other_enclave(lp_t *lp, int signal, const struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	const slot_t *slot = (const slot_t *)((const record_t *)lp->record)->slot;

	return signal == SIGNAL_SEGV && is_exception(signal, info) && uc->trap_number == VECTOR_PF &&
	       uc->cr2 - slot->base >= slot->size && uc->registers.rip - slot->base < slot->size &&
	       host_access(lp, uc->cr2, uc->error_code, &uc->registers);
}

static void signal_outside(lp_t *lp, int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	registers_t *regs = &uc->registers;

	if (is_exception(signal, info)) {
		if (lp && at_enclu(uc) && enclu_outside(lp, uc))
			return;
		if (signal == SIGNAL_SEGV && uc->trap_number == VECTOR_PF &&
		    host_access(lp, uc->cr2, uc->error_code, regs))
			return;
		if (signal == SIGNAL_TRAP && lp && host_step(lp, regs))
			return;
	}
	chain(signal, info, uc);
}

static void handle_signal(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	registers_t *regs = &uc->registers;
	lp_t *lp = lp_of_frame(uc);
	struct refusal why;

	if (lp && settle(lp, uc) && is_exception(signal, info))
		return;
	if (!lp || !lp->record) {
		signal_outside(lp, signal, info, uc);
		return;
	}
	if (signal == SIGNAL_TRAP && host_step(lp, regs))
		return;
	if (step_inside(lp, signal, info, regs) || other_enclave(lp, signal, info, uc))
		return;
	if (is_exception(signal, info)) {
		if (signal == SIGNAL_SYS || !at_enclu(uc))
			classify(lp, signal, uc, &why);
		else if (enclu_inside(lp, regs, &why))
			return;
		exception_inside(lp, signal, info, uc, &why);
		return;
	}
	lp->last_signal = (uint32_t)signal;
	asynchronous_exit(lp, regs, uc->fpstate, NULL);
	chain(signal, info, uc);
	if (lp->interrupt && regs->rip == (uint64_t)enter_aep)
		regs->rip = (uint64_t)enter_interrupted;
}

/* Take over the signals in the mask (bit n-1: signal n); what was there before is called from chain(). */
int swsgx_hook(uint64_t mask)
{
	for (int signal = 1; signal <= 64; signal++) {
		struct kernel_sigaction now;
		struct kernel_sigaction ours = {
			.handler = (uint64_t)handle_signal,
			.restorer = (uint64_t)signal_return,
			.mask = ~0ul,
		};

		if (!(mask >> (signal - 1) & 1) || sys_sigaction(signal, NULL, &now))
			continue;
		if (now.handler == ours.handler)
			continue;
		ours.flags = FLAG_SIGINFO | FLAG_ONSTACK | FLAG_RESTORER | (now.flags & FLAG_RESTART);
		monitor_state.old_actions[signal] = now;
		if (sys_sigaction(signal, &ours, NULL))
			return -signal;
	}
	return 0;
}

/* Give the signals back, except where somebody else has taken them since. */
void swsgx_unhook(void)
{
	for (int signal = 1; signal <= 64; signal++) {
		struct kernel_sigaction now;

		if (!sys_sigaction(signal, NULL, &now) && now.handler == (uint64_t)handle_signal)
			sys_sigaction(signal, &monitor_state.old_actions[signal], NULL);
	}
}

/* Whether the monitor handles a signal now; 0 when somebody took it away. */
int swsgx_hooked(int signal)
{
	struct kernel_sigaction now;

	return !sys_sigaction(signal, NULL, &now) && now.handler == (uint64_t)handle_signal;
}
