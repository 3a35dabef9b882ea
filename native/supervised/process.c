// SPDX-License-Identifier: Apache-2.0
/*
 * fork, and the end of a thread, of an armed process.
 *
 * A fork's child has copies of the monitor's tables, with threads in them that it does not have, and enclave ranges
 * where another thread may just be moving them: the locks are held while the kernel copies. The supervisor is told
 * before (it copies what it knows of the mappings), behind (whether there is a child), and by the child (which gets
 * its own mapping bytes). The child's TCSs are the parent's: a thread that is inside there is inside for the child.
 */
#include "supervised.h"

#include "sys.h"

#define STACK_DISABLE 2u

static void lock_slots(bool lock)
{
	for (uint32_t i = 0; i < SLOT_COUNT; i++) {
		slot_t *slot = &monitor_state.slots[i];

		if (!slot->base)
			continue;
		if (lock)
			lock_slot(slot);
		else
			unlock_slot(slot);
	}
}

static long ask_about(uint32_t op, uint64_t token, uint64_t argument)
{
	request_t request = { .op = op, .token = token, .arg0 = argument };

	if (ask(&request) != ANSWER_DONE)
		return ERROR_NO_CALL;
	return op == ASK_FORK ? (long)request.token : (long)request.result;
}

/* What a child has of other threads is of nobody now; what they did is counted in the parent. */
static void become_child(lp_t *mine)
{
	monitor_state.pid = (uint32_t)sys_getpid();
	for (uint32_t i = 0; i < LP_COUNT; i++) {
		lp_t *lp = (lp_t *)(monitor_state.lps + (uint64_t)i * LP_SIZE);

		if (!lp->attached && !lp->fsbase)
			break;
		lp->eenter_count = lp->aex_count = 0;
		if (lp == mine || !lp->attached)
			continue;
		lp->record = 0;
		lp->fsbase = 1;
		lp->attached = 0;
	}
	zero_bytes(monitor_state.lp_cache, sizeof(monitor_state.lp_cache));
	for (uint32_t i = 0; i < SLOT_COUNT; i++)
		if (monitor_state.slots[i].base)
			nobody_inside(&monitor_state.slots[i]);
	if (mine) {
		mine->tid = (uint32_t)sys_gettid();
		mine->fsbase = read_fsbase(); /* CLONE_SETTLS */
		dispatch_system_calls(mine);
	}
}

long fork_call(registers_t *r, lp_t *lp)
{
	long token = ask_about(ASK_FORK, 0, 0), pid;

	if (token < 0)
		return token == ERROR_NO_CALL ? ERROR_NO_MEMORY : token;
	lock_slots(true);
	lock_patching();
	/* A stack for the child waits until this handler has returned there. */
	pid = sys_call6((long)r->rax, (long)r->rdi, 0, (long)r->rdx, (long)r->r10, (long)r->r8, 0);
	unlock_patching();
	lock_slots(false);
	if (pid == 0) {
		if (r->rax == __NR_clone && r->rsi)
			r->rsp = r->rsi;
		become_child(lp);
		if (ask_about(ASK_CHILD, (uint64_t)token, 0))
			sys_call4(__NR_kill, sys_getpid(), SIGNAL_KILL, 0, 0); /* nobody knows it */
		return 0;
	}
	ask_about(ASK_FORKED, (uint64_t)token, (uint64_t)pid);
	return pid;
}

/* The LogicalProcessor is free when nothing runs on its stack any more: exit_call does both. */
void thread_exit(registers_t *r, lp_t *lp, struct kernel_ucontext *uc)
{
	if (!lp || (uint32_t)sys_getpid() != monitor_state.pid) {
		sys_call4(__NR_exit, (long)r->rdi, 0, 0, 0);
		return;
	}
	release_lp(lp);
	uc->stack.flags = STACK_DISABLE;
	uc->stack.sp = uc->stack.size = 0;
	uc->signal_mask = ~never_blocked();
	r->rbx = (uint64_t)lp;
	r->rip = (uint64_t)exit_call;
}
