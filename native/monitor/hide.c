// SPDX-License-Identifier: Apache-2.0
/*
 * Isolation without protection keys: while no thread is inside, the enclave's range is somewhere else.
 *
 * The host then finds a guard (PROT_NONE). What it reads there is all ones, what it writes there is dropped, as
 * on hardware (SDM, "Access-Control Requirements": abort page): a faulting page becomes a throw-away page of
 * 0xFF, and after a store the page is made 0xFF again by single-stepping the storing instruction. While a thread
 * is inside, other threads can look in: that is the limit of this way, and docs/isolation.md says it.
 *
 * What was learnt about mremap(2):
 *  - moving leaves a hole into which another thread's mmap falls exactly. Where the range lies far below the
 *    addresses that the kernel hands out (SLOT_QUIET) that cannot happen. Elsewhere MREMAP_DONTUNMAP leaves the
 *    old mapping in place (empty), and at the old place the guard is mapped over it; this costs twice as much.
 *  - page tables move whole where both addresses agree modulo 2 MiB: the hidden place is aligned like the range.
 *  - one mapping at a time (before Linux 6.17): a run that a patch has split is mapped afresh instead, or where there
 *    is no file at hand, moved page by page.
 *
 *  - mremap takes userfaultfd's watch away. Where pages may be out of the EPC, what was brought back is watched again,
 *    before anybody is inside (src/swsgx/supervisor/missing.py). Once any page is out, nobody at all may touch it before:
 *    he would make a page of zeros. So it comes back without protection.
 *
 * All of it runs with signals blocked, so the lock is never waited for by its own thread's handler.
 */
#include "monitor.h"

#include "../supervised/supervised.h"
#include "sys.h"

#include <linux/mman.h>

#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED 2
#define MREMAP_DONTUNMAP 4
#define GUARD_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED)

void lock_slot(slot_t *slot)
{
	while (__atomic_exchange_n(&slot->lock, 1, __ATOMIC_ACQUIRE))
		sys_sched_yield();
}

void unlock_slot(slot_t *slot)
{
	__atomic_store_n(&slot->lock, 0, __ATOMIC_RELEASE);
}

static void move_run(const slot_t *slot, const struct swsgx_visible_run *run, uint64_t from, uint64_t to)
{
	uint64_t offset = run->address - slot->base;
	int keep = slot->flags & SLOT_QUIET ? 0 : MREMAP_DONTUNMAP;

	if (sys_mremap(from + offset, run->length, MREMAP_MAYMOVE | MREMAP_FIXED | keep, to + offset) ==
	    (long)(to + offset))
		return;
	if ((int)slot->contents_fd >= 0) {
		sys_mmap(to + offset, run->length, (int)run->prot,
			 MAP_FIXED | (run->private ? MAP_PRIVATE : MAP_SHARED), (int)slot->contents_fd, offset);
		return;
	}
	/* A page is never in two mappings. */
	for (uint64_t at = 0; at < run->length; at += PAGE_BYTES)
		sys_mremap(from + offset + at, PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED | keep, to + offset + at);
}

static void move_all(const slot_t *slot, uint64_t from, uint64_t to)
{
	const struct swsgx_visible_run *runs = (const struct swsgx_visible_run *)slot->runs;

	for (uint32_t i = 0; i < slot->run_count; i++)
		move_run(slot, &runs[i], from, to);
}

static void bring_back(const slot_t *slot)
{
	const struct swsgx_visible_run *runs = (const struct swsgx_visible_run *)slot->runs;
	const bool watched = slot->flags & SLOT_WATCH, careful = watched && pages_leave();

	for (uint32_t i = 0; careful && i < slot->run_count; i++)
		sys_mprotect(runs[i].address - slot->base + slot->hidden, runs[i].length, PROT_NONE);
	move_all(slot, slot->hidden, slot->base);
	for (uint32_t i = 0; watched && i < slot->run_count; i++)
		watch_mapping(runs[i].address, runs[i].length);
	for (uint32_t i = 0; careful && i < slot->run_count; i++)
		sys_mprotect(runs[i].address, runs[i].length, (int)runs[i].prot);
}

/* Only where enclave pages were: the rest of the range may be somebody else's by now. */
static void put_guard(const slot_t *slot)
{
	const struct swsgx_visible_run *runs = (const struct swsgx_visible_run *)slot->runs;
	uint32_t i = 0;

	if (slot->flags & SLOT_QUIET)
		return; /* nothing at all guards as well */
	while (i < slot->run_count) {
		uint64_t start = runs[i].address, end = start;

		while (i < slot->run_count && runs[i].address == end)
			end += runs[i++].length;
		sys_mmap(start, end - start, PROT_NONE, GUARD_FLAGS, -1, 0);
	}
}

/* One more user of the range; the first brings it back. */
void enclave_show(slot_t *slot)
{
	if (!(slot->flags & SLOT_HIDE))
		return;
	lock_slot(slot);
	if (slot->inside++ == 0 && slot->away) {
		bring_back(slot);
		slot->away = 0;
	}
	unlock_slot(slot);
}

/* One user less; the last takes it away. */
void enclave_hide(slot_t *slot)
{
	if (!(slot->flags & SLOT_HIDE))
		return;
	lock_slot(slot);
	if (--slot->inside == 0) {
		move_all(slot, slot->base, slot->hidden);
		put_guard(slot);
		slot->away = 1;
	}
	unlock_slot(slot);
}

/* After a fork, in the child: whoever was inside is not here. */
void nobody_inside(slot_t *slot)
{
	if (!(slot->flags & SLOT_HIDE) || !slot->inside)
		return;
	slot->inside = 1;
	enclave_hide(slot);
}

static void fill_with_ones(uint64_t page)
{
	void *at = (void *)page;
	uint64_t count = PAGE_BYTES;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(0xff) : "memory");
}

/*
 * A fault of the host in the guard. True: the instruction can be tried again. False: the process's own mapping
 * does not allow the access, or it is none of ours.
 */
bool host_access(lp_t *lp, uint64_t address, uint64_t code, registers_t *regs)
{
	slot_t *slot = slot_of(address);
	uint64_t page = address & ~(PAGE_BYTES - 1);
	uint8_t wanted = code & PFEC_I ? VMA_X : code & PFEC_W ? VMA_W : VMA_R;
	int prot = PROT_READ | (code & PFEC_W ? PROT_WRITE : 0) | (code & PFEC_I ? PROT_EXEC : 0);

	if (!slot || !(slot->flags & SLOT_HIDE))
		return false;
	if (!(((const uint8_t *)slot->vma)[(address - slot->base) >> PAGE_SHIFT] & wanted) || !epcm_of(slot, address))
		return false;
	if (above_ceiling(slot, address))
		return false;
	lock_slot(slot);
	if (slot->away) {
		sys_mmap(page, PAGE_BYTES, PROT_READ | PROT_WRITE, GUARD_FLAGS, -1, 0);
		fill_with_ones(page);
		if (!(prot & PROT_WRITE))
			sys_mprotect(page, PAGE_BYTES, prot);
		else if (lp && lp->stepping < STEPPED_PAGES && (lp->stepping || !(regs->rflags & RFLAGS_TF))) {
			((uint64_t *)lp->stepped)[lp->stepping++] = page;
			regs->rflags |= RFLAGS_TF;
		}
	}
	unlock_slot(slot);
	return true;
}

/* The storing instruction is done: its pages are all ones again. True: the trap was ours. */
bool host_step(lp_t *lp, registers_t *regs)
{
	if (!lp->stepping)
		return false;
	for (uint64_t i = 0; i < lp->stepping; i++) {
		uint64_t page = ((const uint64_t *)lp->stepped)[i];
		slot_t *slot = slot_of(page);

		if (!slot)
			continue;
		lock_slot(slot);
		if (slot->away)
			sys_mmap(page, PAGE_BYTES, PROT_NONE, GUARD_FLAGS, -1, 0);
		unlock_slot(slot);
	}
	lp->stepping = 0;
	regs->rflags &= ~RFLAGS_TF;
	return true;
}

static void with_signals_blocked(void (*act)(slot_t *), slot_t *slot)
{
	uint64_t all = ~0ul, before = 0;

	sys_sigprocmask(0, &all, &before);
	act(slot);
	sys_sigprocmask(2, &before, NULL);
}

/* For whoever changes mappings or runs: the range is in place until swsgx_unpin. */
void swsgx_pin(struct swsgx_enclave_slot *slot)
{
	with_signals_blocked(enclave_show, slot);
}

void swsgx_unpin(struct swsgx_enclave_slot *slot)
{
	with_signals_blocked(enclave_hide, slot);
}
