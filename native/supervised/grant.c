// SPDX-License-Identifier: Apache-2.0
/*
 * EACCEPT without a question: an enclave that accepts page after page gets the next ones granted (struct swsgx_grant).
 *
 * What it relies on:
 *  - granted pages are in no table: whoever else touches one, or enters by one, finds no page and asks; and the
 *    supervisor takes a grant back, and with it what was accepted, before it answers anything;
 *  - "busy" is taken by a locked instruction, and the grant is looked at behind it. The supervisor raises the number
 *    first and looks at "busy" then. One of the two sees the other.
 *  - nothing here waits while it is busy: the SECINFO, which may be on a page that is out, is read before.
 */
#include "supervised.h"

#include "sys.h"

#define ACCEPTED (SECINFO_R | SECINFO_W | SECINFO_PENDING | PT_REG << SECINFO_PT_SHIFT)
#define READ_WRITE 3

/* Whether the SECINFO at an address inside says what EAUG makes: REG, readable, writable, PENDING. */
static bool wants_fresh_page(const slot_t *slot, uint64_t address)
{
	const uint64_t index = (address - slot->base) >> PAGE_SHIFT;
	const head_t *head = (const head_t *)slot->head;
	const volatile uint64_t *words;
	const epcm_t *page;
	uint8_t vma;

	if (address & (SIZEOF_SECINFO - 1) || address - slot->base >= slot->size)
		return false;
	vma = ((const uint8_t *)slot->vma)[index];
	page = epcm_of(slot, address);
	if ((vma & (VMA_R | VMA_PRESENT)) != (VMA_R | VMA_PRESENT) || !page)
		return false;
	if (page->state != EPCM_VALID || page->pt != PT_REG || !(page->perm & SECINFO_R) || page->home ||
	    page->secs != head->secs_frame || page->enclaveaddress != (address & ~(PAGE_BYTES - 1)))
		return false;
	words = (const volatile uint64_t *)contents_of(slot, address);
	for (uint64_t i = 1; i < SIZEOF_SECINFO / sizeof(*words); i++)
		if (words[i])
			return false;
	return words[0] == ACCEPTED;
}

static bool is_next(const struct swsgx_grant *grant, uint64_t index)
{
	const uint32_t serial = __atomic_load_n(&grant->serial, __ATOMIC_RELAXED);

	return serial && grant->active == serial && grant->next == index && index < grant->end;
}

bool accept_granted(const slot_t *slot, registers_t *regs, uint32_t length)
{
	struct swsgx_grant *grant = (struct swsgx_grant *)slot->grant;
	const uint64_t index = (regs->rcx - slot->base) >> PAGE_SHIFT;
	bool accepted;

	if ((uint32_t)regs->rax != ENCLU_EACCEPT || !grant || regs->rcx & (PAGE_BYTES - 1) ||
	    regs->rcx - slot->base >= slot->size || !is_next(grant, index) || !wants_fresh_page(slot, regs->rbx))
		return false;
	if (__atomic_exchange_n(&grant->busy, 1, __ATOMIC_SEQ_CST))
		return false;
	accepted = is_next(grant, index) && !sys_call4(__NR_mprotect, (long)regs->rcx, PAGE_BYTES, READ_WRITE, 0);
	if (accepted)
		__atomic_store_n(&grant->next, grant->next + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&grant->busy, 0, __ATOMIC_RELEASE);
	if (!accepted)
		return false;
	regs->rax = 0;
	regs->rflags &= ~(LAHF_FLAGS | RFLAGS_OF | RFLAGS_RF);
	regs->rip += length;
	return true;
}

/* The pages of a grant are mapped now; of one that was taken back meanwhile, nothing comes. */
void grant_mapped(const slot_t *slot, uint64_t serial)
{
	struct swsgx_grant *grant = (struct swsgx_grant *)slot->grant;

	if (grant)
		__atomic_store_n(&grant->active, (uint32_t)serial, __ATOMIC_RELEASE);
}
