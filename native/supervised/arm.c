// SPDX-License-Identifier: Apache-2.0
/*
 * A process that is about to use SGX: the monitor's tables, its handlers in front of the program's, and the second
 * filter, which the supervisor has us install for all threads (TSYNC).
 *
 * Another thread may be in the middle of a trapped call of the unarmed kind meanwhile: it finishes as it began.
 */
#include "supervised.h"

#include "sys.h"

#include <linux/mman.h>

#define XSTATE_LEAF 0xd
#define RESERVED (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

static uint32_t xstate[2 * XSTATE_COMPONENTS];
static uint8_t filter[FILTER_BYTES] __attribute__((aligned(16)));
static uint32_t arming;

static bool make_tables(void)
{
	struct swsgx_monitor_config config = { .xcr0 = swsgx_xcr0(), .xstate = (uint64_t)xstate, .dispatch = 1 };
	long lps = sys_mmap(0, (LP_COUNT + 1ul) * LP_SIZE, PROT_READ | PROT_WRITE, RESERVED, -1, 0);
	long slots = sys_mmap(0, SLOT_COUNT * sizeof(slot_t), PROT_READ | PROT_WRITE, RESERVED, -1, 0);

	if (lps < 0 && lps > -4096)
		return false;
	if (slots < 0 && slots > -4096)
		return false;
	for (uint32_t bit = 2; bit < 63; bit++) {
		uint32_t out[4];

		if (!(config.xcr0 >> bit & 1))
			continue;
		swsgx_cpuid(XSTATE_LEAF, bit, out);
		xstate[2 * bit] = out[1];
		xstate[2 * bit + 1] = out[0];
	}
	config.lps = ((uint64_t)lps + LP_SIZE - 1) & ~(LP_SIZE - 1ul);
	config.slots = (uint64_t)slots;
	swsgx_start(&config);
	target_state.slots = (uint64_t)slots;
	target_state.lps = config.lps;
	target_state.exit_stub = (uint64_t)swsgx_exit_stub(&target_state.exit_stub_size);
	target_state.exit_common = swsgx_exit_common();
	target_state.filter = (uint64_t)filter;
	return true;
}

/* From here on the monitor is in front of all handlers. */
static void take_signals(void)
{
	for (int signal = 1; signal <= 64; signal++) {
		struct kernel_sigaction now;

		/* What was kept here before is the program's; the kernel has ours. */
		if (owned_signals & SIGNAL_BIT(signal) || sys_sigaction(signal, NULL, &now))
			continue;
		now.mask |= believed_mask(signal);
		monitor_state.old_actions[signal] = now;
	}
	owned_signals = ~(SIGNAL_BIT(9) | SIGNAL_BIT(19));
	monitor_state.pid = (uint32_t)sys_getpid();
	monitor_state.supervised = 1;
	target_state.armed = 1;
	for (int signal = 1; signal <= 64; signal++)
		if (owned_signals & SIGNAL_BIT(signal))
			set_real_action(signal);
}

/* All signals are blocked. False: it cannot be done here; the supervisor has said why. */
bool arm(void)
{
	request_t request = { .op = ASK_ARM, .arg0 = (uint64_t)&target_state };
	bool good = true;

	while (__atomic_exchange_n(&arming, 1, __ATOMIC_ACQUIRE))
		sys_sched_yield();
	if (!target_state.armed) {
		good = make_tables();
		if (good) {
			take_signals();
			good = ask(&request) == ANSWER_DONE && !request.result;
		}
	}
	__atomic_store_n(&arming, 0, __ATOMIC_RELEASE);
	return good;
}

/*
 * A thread's alternate stack is changed now, and in the frame, for the handler's end. (The frame alone would not do:
 * Linux 6.12 and newer refuse it there, too, while the handler runs on the present one.)
 * What it blocked before it was ours must not stay blocked.
 */
lp_t *attach_in_frame(struct kernel_ucontext *uc)
{
	lp_t *lp = swsgx_attach_frame(&uc->stack);

	if (!lp)
		return NULL;
	sys_sigaltstack_in_use(&uc->stack);
	lp->blocked = uc->signal_mask & never_blocked();
	uc->signal_mask &= ~never_blocked();
	return lp;
}
