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
 *  - a signal can arrive anywhere in enclu.S. Before LogicalProcessor.record is set the thread is outside: it has
 *    not entered, so a TCS that it has locked is free again, and it starts anew. Between that and the jump into the enclave, the entry is completed in the frame;
 *    on the way out, the exit is. So the rest of the handler sees a thread that is inside, or outside.
 *  - all signals are blocked while this handler runs, and the program's own mask is put in place before its
 *    handler is called.
 *  - a fault that nobody handles is given back its default action and happens again, so that the process dies
 *    where it would have died, with the right core.
 */
#include "signal.h"

#include "../supervised/supervised.h"
#include "sys.h"

static bool within(uint64_t address, const char *begin, const char *end)
{
	return address - (uint64_t)begin < (uint64_t)end - (uint64_t)begin;
}

lp_t *lp_of_stack(const struct kernel_stack *stack)
{
	uint64_t offset = stack->sp - LP_STACK_OFFSET - monitor_state.lps;
	lp_t *lp;

	if (!monitor_state.lps || offset >= (uint64_t)LP_COUNT * LP_SIZE || offset & (LP_SIZE - 1))
		return NULL;
	lp = (lp_t *)(monitor_state.lps + offset);
	return lp->attached ? lp : NULL;
}

/* The flags with those that the fast path keeps by LAHF and SETO. */
static uint64_t arithmetic_flags(uint64_t flags, uint64_t pushed)
{
	return (flags & ~(LAHF_FLAGS | RFLAGS_OF)) | (pushed >> 8 & LAHF_FLAGS) | (pushed & 1 ? RFLAGS_OF : 0);
}

/*
 * The signal came between the commit of the fast path and its jump: do the rest in the frame. A single step
 * shows here first: TF is put aside until the exit, as EENTER does for an opt-out entry.
 */
static void complete_fast_entry(lp_t *lp, registers_t *regs)
{
	record_t *record = (record_t *)lp->record;
	const uint64_t *pushed = (const uint64_t *)(lp->enter_rsp - ENTER_RED_ZONE);

	record->host_rflags = regs->rflags & RFLAGS_TF;
	regs->rflags = arithmetic_flags(regs->rflags & ~RFLAGS_TF, pushed[-4]);
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
 * The fast path holds the TCS and has not committed. The program's handler need not come back (longjmp) and may enter
 * itself: the thread is at its ENCLU again, and the TCS is free.
 */
static void undo_fast_entry(registers_t *regs)
{
	const record_t *record = (const record_t *)regs->rdi;
	const uint64_t *pushed = (const uint64_t *)regs->rsp;

	if (regs->rip == (uint64_t)enter_locked && regs->rflags & RFLAGS_CF)
		return; /* somebody else's lock */
	__atomic_store_n(&((struct sgx_tcs *)record->tcs_page)->state, 0, __ATOMIC_RELEASE);
	if (regs->rip == (uint64_t)enter_commit)
		regs->rcx -= AEP_BYTES;
	regs->rflags = arithmetic_flags(regs->rflags, pushed[0]);
	regs->rdi = pushed[1];
	regs->rsi = pushed[2];
	regs->rdx = pushed[3];
	regs->rax = ENCLU_EENTER;
	regs->rsp = (uint64_t)(pushed + 4) + ENTER_RED_ZONE;
	regs->rip = regs->rcx;
}

/*
 * Roll a half-done entry or exit forward. Afterwards lp->record tells whether the thread is inside. True: the signal
 * was the transition's own and is dealt with: the exit stub's HLT, its look at the target, or the single step that TF
 * brings to an entry.
 */
static bool settle(lp_t *lp, struct kernel_ucontext *uc, bool exception)
{
	const record_t *record;
	registers_t *regs = &uc->registers;

	if (lp->record) {
		if (within(regs->rip, enter_fast_begin, enter_fast_end)) {
			complete_fast_entry(lp, regs);
			return uc->trap_number == VECTOR_DB;
		}
		if (within(regs->rip, enter_slow_begin, enter_slow_end)) {
			complete_slow_entry(lp, regs, uc->fpstate);
			return false;
		}
		if (leave_by_stub(lp, regs))
			return !lp->record && (uc->trap_number == VECTOR_GP || uc->trap_number == VECTOR_PF);
		if (within(regs->rip, exit_common, exit_cleared_0)) {
			regs->rax = ENCLU_EEXIT;
			leave_enclave(lp, regs);
			/* GS base 0 "found" an unused line of the exit table; or the HLT for TF. */
			return uc->trap_number == VECTOR_PF || uc->trap_number == VECTOR_GP;
		}
		return false;
	}
	if (within(regs->rip, enter_locked, enter_fast_begin) || regs->rip == (uint64_t)enter_unlock) {
		if (!exception) /* a single step must get on */
			undo_fast_entry(regs);
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

/* A byte of code; that of an enclave as it was added, whatever a debugger or a patch made of its private copy. */
static uint8_t code_at(const slot_t *slot, uint64_t address)
{
	bool inside = slot && address - slot->base < slot->size;

	return *(const volatile uint8_t *)(inside ? contents_of(slot, address) : address);
}

/* Segment overrides, the address-size prefix and REX mean nothing to ENCLU; LOCK, 66, F2 and F3 make it #UD. */
static bool ignored_by_enclu(uint8_t byte)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x67:
	case 0x40 ... 0x4f:
		return true;
	default:
		return false;
	}
}

/*
 * Bytes of the ENCLU at RIP, prefixes included; 0: something else. "slot": the enclave that the thread is inside, or
 * NULL. The bytes can be read, since they were fetched: #UD and #GP come after the fetch, and a byte is looked at only
 * if those before it want it. (Not so where a branch to a non-canonical address leaves RIP there, nor behind a HLT
 * that patch_enclu_site() did not put there.)
 */
static uint32_t enclu_at(const struct kernel_ucontext *uc, const slot_t *slot)
{
	uint64_t at = uc->registers.rip;
	uint8_t opcode;

	if ((uc->trap_number != VECTOR_UD && uc->trap_number != VECTOR_GP) || !canonical(at))
		return 0;
	while (at - uc->registers.rip < 12 && ignored_by_enclu(code_at(slot, at)))
		at++;
	opcode = code_at(slot, at);
	/* With #UD, too: another thread has put it there since. */
	if (opcode == 0xf4 && (at & (PAGE_BYTES - 1)) > PAGE_BYTES - ENCLU_BYTES)
		return 0;
	if ((opcode != 0x0f && opcode != 0xf4) || code_at(slot, at + 1) != 0x01 || code_at(slot, at + 2) != 0xd7)
		return 0;
	return (uint32_t)(at + ENCLU_BYTES - uc->registers.rip);
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

/* What an ENCLU inside comes to. */
enum enclu_end { ENCLU_RAISES, ENCLU_LEAVES, ENCLU_STAYS };

static enum enclu_end raises(struct refusal *why, uint32_t check, uint64_t found)
{
	refuse(why, check, VECTOR_GP, 0, 0, 0, found);
	return ENCLU_RAISES;
}

/*
 * A leaf that the machine's model carries out, which is Python. Under a supervisor it is asked. In our own process the
 * thread leaves, as by an interrupt, and its caller carries the leaf out in the frame (swsgx.inprocess.leaves); where
 * nobody is that would, the leaf is none of this processor.
 */
static enum enclu_end enclu_elsewhere(lp_t *lp, struct kernel_ucontext *uc, uint32_t length, struct refusal *why)
{
	registers_t *regs = &uc->registers;
	record_t *record = (record_t *)lp->record;
	uint32_t leaf = (uint32_t)regs->rax;

	if (monitor_state.supervised) {
		return ask_leaf((const slot_t *)record->slot, regs, length, why) ? ENCLU_STAYS : ENCLU_RAISES;
	}
	if (!lp->interrupt || record->aep != (uint64_t)enter_aep)
		return raises(why, CHECK_LEAF_NOT_MODELLED, leaf);
	lp->rip = regs->rip;
	asynchronous_exit(lp, regs, uc->fpstate, NULL);
	lp->leaf = leaf;
	lp->leaf_length = length;
	regs->rip = (uint64_t)enter_interrupted;
	return ENCLU_STAYS;
}

/* An ENCLU of so many bytes inside an enclave. ENCLU_RAISES: "why" is the exception. */
static enum enclu_end enclu_inside(lp_t *lp, struct kernel_ucontext *uc, uint32_t length, struct refusal *why)
{
	slot_t *slot = (slot_t *)((record_t *)lp->record)->slot;
	registers_t *regs = &uc->registers;
	uint32_t leaf = (uint32_t)regs->rax;

	switch (leaf) {
	case ENCLU_EEXIT:
		if (!canonical(regs->rbx))
			return raises(why, CHECK_EXIT_TARGET_CANONICAL, regs->rbx);
		if (length == ENCLU_BYTES)
			patch_exit_site(slot, regs->rip);
		leave_enclave(lp, regs);
		return ENCLU_LEAVES;
	case ENCLU_EENTER:
	case ENCLU_ERESUME:
		return raises(why, CHECK_LEAF_WRONG_SIDE, leaf);
	case ENCLU_EACCEPT:
	case ENCLU_EMODPE:
	case ENCLU_EACCEPTCOPY:
		return enclu_elsewhere(lp, uc, length, why);
	case ENCLU_EREPORT:
	case ENCLU_EGETKEY:
		return raises(why, CHECK_LEAF_NOT_MODELLED, leaf);
	default:
		return raises(why, CHECK_LEAF_UNKNOWN, leaf);
	}
}

/* INT 3 and INT 4 in their long forms, which the host executes; other numbers are #GP. */
static bool behind_int_n(const slot_t *slot, uint64_t rip)
{
	uint8_t number = code_at(slot, rip - 1);

	return code_at(slot, rip - INT_N_BYTES) == 0xcd && (number == VECTOR_BP || number == VECTOR_OF);
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
		regs->rflags |= RFLAGS_RF;
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
	} else if ((uc->trap_number == VECTOR_BP || uc->trap_number == VECTOR_OF) && behind_int_n(slot, regs->rip)) {
		regs->rip -= INT_N_BYTES;
		regs->rflags |= RFLAGS_RF;
		refuse(why, CHECK_ILLEGAL_INSTRUCTION, VECTOR_UD, 0, 0, 0, 0);
	} else if (uc->trap_number == VECTOR_BP) {
		/* A fault inside an enclave, and #BP only for an opt-in entry (SDM, "INT3 Behavior Inside an Enclave"). */
		bool opted_in = ((const struct sgx_tcs *)record->tcs_page)->flags & TCS_FLAG_DBGOPTIN;

		regs->rip -= INT3_BYTES;
		regs->rflags |= RFLAGS_RF;
		refuse(why, opted_in ? CHECK_EXCEPTION : CHECK_ILLEGAL_INSTRUCTION, opted_in ? VECTOR_BP : VECTOR_UD,
		       0, 0, 0, 0);
	} else {
		refuse(why, CHECK_EXCEPTION, (uint32_t)uc->trap_number, uc->error_code, 0, 0, 0);
	}
}

/*
 * Give a signal to whoever handled it before the monitor came. "again": a fault of the host's, which happens again
 * when the handler returns, so that a default action can be left to it.
 */
static void chain(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc, bool again)
{
	struct kernel_sigaction *old = &monitor_state.old_actions[signal];
	uint64_t handler = old->handler;
	uint64_t mask = uc->signal_mask | old->mask;

	if (monitor_state.supervised) {
		deliver(signal, info, uc, again);
		return;
	}
	if (handler == SIG_DEFAULT || handler == SIG_IGNORE) {
		struct kernel_sigaction fallback = { .handler = SIG_DEFAULT };

		if (handler == SIG_IGNORE && !is_exception(signal, info))
			return;
		sys_sigaction(signal, &fallback, NULL);
		uc->signal_mask &= ~(1ul << (signal - 1)); /* an exception cannot be blocked */
		if (!again)
			sys_tgkill(sys_getpid(), sys_gettid(), signal);
		return;
	}
	if (!(old->flags & FLAG_NODEFER))
		mask |= 1ul << (signal - 1);
	if (old->flags & FLAG_RESETHAND)
		old->handler = SIG_DEFAULT;
	sys_sigprocmask(MASK_SET, &mask, NULL);
	((void (*)(int, struct kernel_siginfo *, struct kernel_ucontext *))handler)(signal, info, uc);
}

static bool is_fault(int signal, const struct kernel_siginfo *info)
{
	return is_exception(signal, info) && signal != SIGNAL_TRAP && signal != SIGNAL_SYS;
}

/* A #PF of the model: SIGSEGV, or SIGBUS where it is the driver that has no page (kernel: do_user_addr_fault). */
static int signal_of_page_fault(const struct refusal *why, struct kernel_siginfo *info)
{
	switch (why->check) {
	case CHECK_PAGE_ABSENT:
	case CHECK_PAGE_CEILING:
		info->code = CODE_BUS_ADRERR;
		return SIGNAL_BUS;
	case CHECK_PAGE_NOT_MAPPED:
		info->code = CODE_SEGV_MAPERR;
		return SIGNAL_SEGV;
	case CHECK_LEAF_FAULT:
		info->code = why->expected == LEAF_SIGNAL_BUS	   ? CODE_BUS_ADRERR :
			     why->expected == LEAF_SIGNAL_MAPERR ? CODE_SEGV_MAPERR :
								   CODE_SEGV_ACCERR;
		return why->expected == LEAF_SIGNAL_BUS ? SIGNAL_BUS : SIGNAL_SEGV;
	case CHECK_TCS_IN_EPC:
	case CHECK_SSA_IN_ELRANGE:
	case CHECK_SSA_PAGING:
	case CHECK_GPR_PAGING:
		if (why->found & VMA_R && why->found & VMA_W) {
			info->code = CODE_BUS_ADRERR;
			return SIGNAL_BUS;
		}
		info->code = why->found & VMA_MAPPED ? CODE_SEGV_ACCERR : CODE_SEGV_MAPERR;
		return SIGNAL_SEGV;
	default:
		info->code = CODE_SEGV_ACCERR;
		return SIGNAL_SEGV;
	}
}

/*
 * The signal that the kernel makes of an exception, and what it tells with it. The host's own signal may be another
 * one, and its siginfo knows where in the enclave it was (kernel: arch/x86/kernel/traps.c, arch/x86/mm/fault.c).
 */
static int describe(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc, const struct refusal *why)
{
	uc->trap_number = why->vector;
	uc->error_code = why->error_code;
	switch (why->vector) {
	case VECTOR_DE:
	case VECTOR_MF:
	case VECTOR_XM:
		info->address = uc->registers.rip;
		break;
	case VECTOR_UD:
		signal = SIGNAL_ILL;
		info->code = CODE_ILL_ILLOPN;
		info->address = uc->registers.rip;
		break;
	case VECTOR_GP:
		signal = SIGNAL_SEGV;
		info->code = CODE_KERNEL;
		info->address = 0;
		break;
	case VECTOR_PF:
		if (why->check != CHECK_OUTSIDE_ELRANGE)
			signal = signal_of_page_fault(why, info);
		uc->cr2 = info->address = why->address & ~(PAGE_BYTES - 1);
		break;
	default:
		break;
	}
	info->signo = signal;
	return signal;
}

/* In our own process a call can end instead of resuming: so that Python, say, gets a turn. */
static void interrupted(const lp_t *lp, registers_t *regs)
{
	if (lp->interrupt && regs->rip == (uint64_t)enter_aep)
		regs->rip = (uint64_t)enter_interrupted;
}

/* An exception inside: AEX, then the vDSO's fixup or the program's handler, which sees RIP = AEP. */
static void exception_inside(lp_t *lp, int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc,
			     const struct refusal *why)
{
	registers_t *regs = &uc->registers;

	if (monitor_state.supervised && page_appears(why))
		return;
	remember(lp, why);
	lp->rip = regs->rip;
	asynchronous_exit(lp, regs, uc->fpstate, why);
	if ((regs->rip == (uint64_t)enter_aep || regs->rip == (uint64_t)enter_v23_aep) && why->vector != VECTOR_BP && why->vector != VECTOR_DB) {
		divert_to_fixup(regs, why);
		return;
	}
	signal = describe(signal, info, uc, why);
	chain(signal, info, uc, false);
	interrupted(lp, regs);
}

/* An ENCLU of so many bytes, of the program's own, outside: EENTER or ERESUME; or the exception that it raises. */
static void enclu_outside(lp_t *lp, int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc,
			  uint32_t length)
{
	registers_t *regs = &uc->registers;
	uint32_t leaf = (uint32_t)regs->rax;
	uint64_t after = regs->rip + length;
	struct refusal why;
	record_t *record = NULL;

	if (leaf == ENCLU_EENTER || leaf == ENCLU_ERESUME)
		do
			record = enter_enclave(lp, regs, after, (uint8_t *)lp + LP_XSTATE_OFFSET, &why);
		while (!record && monitor_state.supervised && page_appears(&why));
	else
		refuse(&why, leaf <= ENCLU_EACCEPTCOPY ? CHECK_LEAF_WRONG_SIDE : CHECK_LEAF_UNKNOWN, VECTOR_GP, 0, 0,
		       0, leaf);
	if (!record) {
		remember(lp, &why);
		lp->rip = 0;
		signal = describe(signal, info, uc, &why);
		chain(signal, info, uc, false);
		return;
	}
	if (uc->trap_number == VECTOR_UD && ((const slot_t *)record->slot)->flags & SLOT_PATCH)
		patch_enclu_site(after - ENCLU_BYTES);
	lp->record = (uint64_t)record;
	if (leaf == ENCLU_ERESUME) {
		const head_t *head = (const head_t *)record->head;

		xstate_copy(uc->fpstate, (uint8_t *)lp + LP_XSTATE_OFFSET, head->xfrm, ~0ul);
	}
	lp->selector = SYSCALL_DISPATCH_FILTER_BLOCK;
	load_bases(record);
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
		uint32_t enclu = signal != SIGNAL_SYS && (lp || monitor_state.supervised) ? enclu_at(uc, NULL) : 0;

		if (enclu && !lp)
			lp = attach_in_frame(uc);
		if (enclu && lp) {
			enclu_outside(lp, signal, info, uc, enclu);
			return;
		}
		if (signal == SIGNAL_SEGV && uc->trap_number == VECTOR_PF &&
		    host_access(lp, uc->cr2, uc->error_code, regs))
			return;
		if (signal == SIGNAL_TRAP && lp && host_step(lp, regs))
			return;
		if (monitor_state.supervised && signal == SIGNAL_SEGV && uc->trap_number == VECTOR_PF) {
			int told = host_fault(uc);

			if (told == FAULT_AGAIN)
				return;
			if (told == FAULT_BUS) {
				signal = info->signo = SIGNAL_BUS;
				info->code = CODE_BUS_ADRERR;
				chain(signal, info, uc, false);
				return;
			}
		}
	}
	chain(signal, info, uc, is_fault(signal, info));
}

/* EEXIT is done. With TF, a #DB is pending at its target (SDM, "EEXIT"). */
static void left(struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	if (!(uc->registers.rflags & RFLAGS_TF))
		return;
	uc->trap_number = VECTOR_DB;
	uc->error_code = 0;
	info->signo = SIGNAL_TRAP;
	info->code = TRAP_TRACE;
	info->address = uc->registers.rip;
	chain(SIGNAL_TRAP, info, uc, false);
}

static void handle(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	registers_t *regs = &uc->registers;
	lp_t *lp = lp_of_stack(&uc->stack);
	struct refusal why;

	if (monitor_state.supervised && (supervisor_called(signal, info, uc, lp && lp->record) || trapped_call(signal, info, uc, lp)))
		return;
	if (lp && settle(lp, uc, is_exception(signal, info)) && is_exception(signal, info)) {
		if (!lp->record)
			left(info, uc);
		return;
	}
	if (!lp || !lp->record) {
		signal_outside(lp, signal, info, uc);
		return;
	}
	if (signal == SIGNAL_TRAP && host_step(lp, regs))
		return;
	if (step_inside(lp, signal, info, regs) || other_enclave(lp, signal, info, uc))
		return;
	if (is_exception(signal, info)) {
		uint32_t enclu = 0;

		if (signal != SIGNAL_SYS)
			enclu = enclu_at(uc, (const slot_t *)((const record_t *)lp->record)->slot);
		if (enclu) {
			enum enclu_end end = enclu_inside(lp, uc, enclu, &why);

			if (end == ENCLU_LEAVES)
				left(info, uc);
			if (end != ENCLU_RAISES)
				return;
		} else {
			classify(lp, signal, uc, &why);
		}
		exception_inside(lp, signal, info, uc, &why);
		return;
	}
	lp->last_signal = (uint32_t)signal;
	lp->leaf = 0;
	asynchronous_exit(lp, regs, uc->fpstate, NULL);
	chain(signal, info, uc, false);
	interrupted(lp, regs);
}

static void handle_signal(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	clear_unusual_flags();
	handle(signal, info, uc);
	/* rt_sigreturn takes most flags from the frame, but these from here (kernel: FIX_EFLAGS). */
	write_flags(uc->registers.rflags, RFLAGS_NT | RFLAGS_ID);
}

struct kernel_sigaction monitor_action(const struct kernel_sigaction *wanted)
{
	return (struct kernel_sigaction){
		.handler = (uint64_t)handle_signal,
		.flags = FLAG_SIGINFO | FLAG_ONSTACK | FLAG_RESTORER | (wanted->flags & FLAG_RESTART),
		.restorer = (uint64_t)signal_return,
		.mask = ~0ul,
	};
}

/* Take over the signals in the mask (bit n-1: signal n); what was there before is called from chain(). */
int swsgx_hook(uint64_t mask)
{
	for (int signal = 1; signal <= 64; signal++) {
		struct kernel_sigaction now, ours;

		if (!(mask >> (signal - 1) & 1) || sys_sigaction(signal, NULL, &now))
			continue;
		ours = monitor_action(&now);
		if (now.handler == ours.handler)
			continue;
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
