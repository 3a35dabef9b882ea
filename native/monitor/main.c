// SPDX-License-Identifier: Apache-2.0
/* What the process asks of the monitor: start, threads, enclaves; and the tables that the paths share. */
#include "monitor.h"

#include "../supervised/supervised.h"
#include "signal.h"
#include "sys.h"

#include <asm/mman.h>
#include <linux/elf.h>


struct monitor_state monitor_state;

static uint32_t lp_line(uint64_t fsbase)
{
	return ((fsbase >> 12) + (fsbase >> 23)) & (LP_CACHE_ENTRIES - 1);
}

static lp_t *lp_at(uint32_t index)
{
	return (lp_t *)(monitor_state.lps + (uint64_t)index * LP_SIZE);
}

/* The kernel's MXCSR_MASK: which bits XRSTOR takes. */
static uint32_t read_mxcsr_mask(void)
{
	uint8_t image[512] __attribute__((aligned(16)));

	zero_bytes(image, sizeof(image));
	__asm__ volatile("fxsave64 %0" : "+m"(image));
	return *(uint32_t *)(image + 28) ? *(uint32_t *)(image + 28) : 0xffbf;
}

int swsgx_start(const struct swsgx_monitor_config *config)
{
	monitor_state.lps = config->lps;
	monitor_state.slots = (slot_t *)config->slots;
	monitor_state.xstate = (const uint32_t *)config->xstate;
	monitor_state.xcr0 = config->xcr0;
	monitor_state.mxcsr_mask = read_mxcsr_mask();
	monitor_state.dispatch = (uint32_t)config->dispatch;
	return 0;
}

/* Where our own code lies. */
void image_code(uint64_t *begin, uint64_t *length)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)image_header;
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(image_header + header->e_phoff);

	while (!(segment->p_flags & PF_X))
		segment++;
	*begin = (uint64_t)image_header + segment->p_vaddr;
	*length = segment->p_memsz;
}

/*
 * Let SYSCALL trap while the selector says so, that is, inside enclaves; never for the monitor's own code. Refused
 * by kernels before 5.11: then a SYSCALL inside is executed, which the coverage table says.
 */
void dispatch_system_calls(lp_t *lp)
{
	uint64_t begin, length;

	image_code(&begin, &length);
	lp->selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	lp->dispatching = monitor_state.dispatch && !sys_prctl(PR_SET_SYSCALL_USER_DISPATCH,
							       PR_SYS_DISPATCH_ON, (long)begin, (long)length,
							       &lp->selector);
}

static struct kernel_stack alternate_stack_of(const lp_t *lp)
{
	return (struct kernel_stack){ .sp = (uint64_t)lp + LP_STACK_OFFSET, .size = LP_SIZE - LP_STACK_OFFSET };
}

static long set_alternate_stack(lp_t *lp, void *old)
{
	struct kernel_stack ours = alternate_stack_of(lp);

	return sys_sigaltstack(&ours, old);
}

/* A LogicalProcessor for the calling thread, but for its alternate signal stack. NULL: none left. */
static lp_t *take_lp(void)
{
	uint64_t fsbase = read_fsbase();

	if (!monitor_state.lps)
		return NULL;
	for (uint32_t i = 0; i < LP_COUNT; i++) {
		lp_t *lp = lp_at(i);
		uint32_t free = 0;

		if (!__atomic_compare_exchange_n(&lp->attached, &free, 1, false, __ATOMIC_ACQUIRE,
						 __ATOMIC_RELAXED))
			continue;
		lp->record = 0;
		lp->fsbase = fsbase;
		lp->tid = (uint32_t)sys_gettid();
		lp->interrupt = 0;
		lp->pending_xstate = 0;
		lp->blocked = 0;
		lp->stepping = 0;
		/* A handler that needs more stack than there is must not run into the block's own data. */
		sys_mprotect((uint64_t)lp + LP_GUARD_OFFSET, PAGE_BYTES, PROT_NONE);
		return lp;
	}
	return NULL;
}

/* Give the calling thread a LogicalProcessor and its alternate signal stack. NULL: none left, or refused. */
static lp_t *attach_thread(void)
{
	lp_t *lp = take_lp();

	if (!lp)
		return NULL;
	if (set_alternate_stack(lp, lp->old_stack)) {
		__atomic_store_n(&lp->attached, 0, __ATOMIC_RELEASE);
		return NULL;
	}
	dispatch_system_calls(lp);
	return lp;
}

/* The same from a signal handler, whose frame says which alternate stack the thread goes on with. */
lp_t *swsgx_attach_frame(struct kernel_stack *stack)
{
	lp_t *lp = take_lp();

	if (!lp)
		return NULL;
	copy_bytes(lp->old_stack, stack, sizeof(*stack));
	*stack = alternate_stack_of(lp);
	dispatch_system_calls(lp);
	return lp;
}

/* The calling thread's LogicalProcessor; also puts it where the fast path looks. */
lp_t *current_lp(void)
{
	uint64_t fsbase = read_fsbase();
	struct cache_line *line = &monitor_state.lp_cache[lp_line(fsbase)];

	if (!monitor_state.lps)
		return NULL;
	for (uint32_t i = 0; i < LP_COUNT; i++) {
		lp_t *lp = lp_at(i);

		if (!lp->attached && !lp->fsbase)
			break; /* blocks are taken in order: behind a virgin one there are only virgin ones */
		if (!lp->attached || lp->fsbase != fsbase)
			continue;
		line->key = 0;
		__atomic_store_n(&line->value, (uint64_t)lp, __ATOMIC_RELEASE);
		__atomic_store_n(&line->key, fsbase, __ATOMIC_RELEASE);
		return lp;
	}
	return NULL;
}

struct swsgx_logical_processor *swsgx_attach(void)
{
	lp_t *lp = current_lp();

	if (!lp)
		return attach_thread() ? current_lp() : NULL;
	if (lp->tid != (uint32_t)sys_gettid()) {
		/*
		 * A fork's child: all is inherited but the dispatching of system calls. Or a thread of such a child, on the
		 * stack of one that was not inherited: then the alternate stack is missing, too, and what is noted here may
		 * be of a call that never ends.
		 */
		lp->tid = (uint32_t)sys_gettid();
		lp->record = 0;
		lp->stepping = 0;
		set_alternate_stack(lp, NULL);
		dispatch_system_calls(lp);
	}
	return lp;
}

/* The thread enters no enclave any more. Its block is free when LogicalProcessor.attached is cleared. */
void release_lp(lp_t *lp)
{
	struct cache_line *line = &monitor_state.lp_cache[lp_line(lp->fsbase)];

	if (line->value == (uint64_t)lp)
		line->key = 0;
	if (lp->dispatching)
		sys_prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, NULL);
	lp->dispatching = 0;
	/* No thread's: whoever takes the block next is not to be found by this one's successor at the same FS base. */
	lp->fsbase = 1;
}

int swsgx_detach(void)
{
	lp_t *lp = current_lp();

	if (!lp)
		return 0;
	if (lp->record)
		return -1;
	release_lp(lp);
	sys_sigaltstack(lp->old_stack, NULL);
	__atomic_store_n(&lp->attached, 0, __ATOMIC_RELEASE);
	return 0;
}

/* Forget what the caches know of an enclave that is about to go. No thread may be inside. */
void swsgx_forget(uint64_t base, uint64_t size)
{
	for (uint32_t i = 0; i < RECORD_CACHE_ENTRIES; i++)
		if (monitor_state.record_cache[i].key - base < size)
			__atomic_store_n(&monitor_state.record_cache[i].key, 0, __ATOMIC_RELEASE);
}

/* The exit stub's code, for the page that every enclave gets near its own code. */
const void *swsgx_exit_stub(uint64_t *size)
{
	*size = (uint64_t)(exit_stub_end - exit_stub_begin);
	return exit_stub_begin;
}

uint64_t swsgx_exit_common(void)
{
	return (uint64_t)exit_common;
}

void swsgx_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *out)
{
	__asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "0"(leaf), "2"(subleaf));
}

uint64_t swsgx_xcr0(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

/* The TCS finds its thread at EEXIT by the page of its GS base; two TCSs with one GS base must take the long way. */
static void publish_exit_key(const slot_t *slot, record_t *record)
{
	uint64_t *keys = (uint64_t *)slot->exit_table;
	uint64_t *records = keys ? keys + EXIT_KEYS : NULL;
	uint64_t gsbase = slot->base + ((const struct sgx_tcs *)(record->tcs - slot->base + slot->contents))->ogsbase;
	uint64_t line = (gsbase >> PAGE_SHIFT) & (EXIT_KEYS - 1);
	uint64_t empty = 0;

	/* A page that becomes a TCS again can have another one; the old key stays, for nobody. */
	if (!keys || __atomic_exchange_n(&record->exit_gsbase, gsbase, __ATOMIC_ACQ_REL) == gsbase)
		return;
	if (__atomic_compare_exchange_n(&records[line], &empty, (uint64_t)record, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		__atomic_store_n(&keys[line], gsbase, __ATOMIC_RELEASE);
	else if (empty != (uint64_t)record)
		__atomic_store_n(&keys[line], ~0ul, __ATOMIC_RELEASE); /* matches no GS base */
}

/* The record of a TCS in this process, made at its first entry; NULL when the table is full. */
record_t *record_for(slot_t *slot, uint64_t tcs)
{
	struct cache_line *line = &monitor_state.record_cache[(tcs >> PAGE_SHIFT) & (RECORD_CACHE_ENTRIES - 1)];
	record_t *records = (record_t *)slot->threads;

	for (uint32_t i = 0; i < slot->thread_capacity; i++) {
		uint64_t seen = 0;
		bool fresh = __atomic_compare_exchange_n(&records[i].tcs, &seen, tcs, false, __ATOMIC_ACQ_REL,
							 __ATOMIC_ACQUIRE);

		if (!fresh && seen != tcs)
			continue;
		/* What the fast path reads before it knows whether the checks were ever made. */
		records[i].slot = (uint64_t)slot;
		records[i].head = slot->head;
		records[i].tcs_page = contents_of(slot, tcs);
		if (fresh)
			__atomic_fetch_add(&slot->thread_count, 1, __ATOMIC_RELAXED);
		publish_exit_key(slot, &records[i]);
		__atomic_store_n(&line->key, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&line->value, (uint64_t)&records[i], __ATOMIC_RELEASE);
		__atomic_store_n(&line->key, tcs, __ATOMIC_RELEASE);
		return &records[i];
	}
	return NULL;
}

/* What the kernel does to an exception at the vDSO's ENCLU (arch/x86/entry/vdso/extable.c): RIP is there. */
void divert_to_fixup(registers_t *regs, const struct refusal *why)
{
	regs->rip = (uint64_t)(regs->rip == (uint64_t)enter_v23_aep ? enter_v23_fixup : enter_fixup);
	regs->rdi = why->vector;
	regs->rsi = why->error_code;
	regs->rdx = why->vector == VECTOR_PF ? why->address & ~(PAGE_BYTES - 1) : 0;
}

void remember(lp_t *lp, const struct refusal *why)
{
	lp->check = why->check;
	lp->vector = why->vector;
	lp->error_code = why->error_code;
	lp->address = why->address;
	lp->expected = why->expected;
	lp->found = why->found;
	if (monitor_state.supervised)
		explain(why);
}

static void no_enclave(const registers_t *regs, struct refusal *why)
{
	if (regs->rbx & (PAGE_BYTES - 1))
		refuse(why, CHECK_TCS_ALIGNED, VECTOR_GP, 0, 0, PAGE_BYTES, regs->rbx);
	else
		refuse(why, CHECK_TCS_IN_EPC, VECTOR_PF, PFEC_U | PFEC_W, regs->rbx, 0, 0);
}

/* enclu.S, when the fast path could not: returns the record to commit, or NULL with regs at the fixup. */
record_t *enclu_slow(registers_t *regs)
{
	lp_t *lp = swsgx_attach();
	struct refusal why;
	uint32_t leaf = (uint32_t)regs->rax;
	record_t *record = NULL;

	if (!monitor_state.lps) /* a program that never opened a node has no enclave */
		no_enclave(regs, &why);
	else if (!lp)
		refuse(&why, CHECK_THREAD_NOT_ATTACHED, VECTOR_GP, 0, 0, LP_COUNT, 0);
	else if (leaf != ENCLU_EENTER && leaf != ENCLU_ERESUME)
		refuse(&why, CHECK_LEAF_UNKNOWN, VECTOR_GP, 0, 0, 0, leaf);
	else
		do
			record = enter_enclave(lp, regs, regs->rcx + AEP_BYTES, (uint8_t *)lp + LP_XSTATE_OFFSET, &why);
		while (!record && monitor_state.supervised && page_appears(&why));
	if (!record) {
		if (lp) {
			remember(lp, &why);
			lp->rip = 0;
		}
		divert_to_fixup(regs, &why);
		return NULL;
	}
	lp->pending_xstate = leaf == ENCLU_ERESUME ? (uint64_t)lp + LP_XSTATE_OFFSET : 0;
	return record;
}
