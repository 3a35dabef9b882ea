// SPDX-License-Identifier: Apache-2.0
/* What the model says of an address inside ELRANGE: mapping bytes, frame map, EPCM. */
#include "monitor.h"

slot_t *slot_of(uint64_t address)
{
	for (uint32_t i = 0; i < SLOT_COUNT; i++) {
		slot_t *slot = &monitor_state.slots[i];
		uint64_t base = __atomic_load_n(&slot->base, __ATOMIC_ACQUIRE);

		if (base && address - base < slot->size)
			return slot;
	}
	return NULL;
}

static uint64_t page_index(const slot_t *slot, uint64_t address)
{
	return (address - slot->base) >> PAGE_SHIFT;
}

/* The EPCM entry of the page that holds the address, or NULL where no page is in the EPC. */
const epcm_t *epcm_of(const slot_t *slot, uint64_t address)
{
	const uint32_t *frames = (const uint32_t *)slot->frames;
	uint32_t frame = __atomic_load_n(&frames[page_index(slot, address)], __ATOMIC_ACQUIRE);

	return frame ? (const epcm_t *)slot->epcm + (frame - 1) : NULL;
}

uint64_t contents_of(const slot_t *slot, uint64_t address)
{
	return slot->contents + (address - slot->base);
}

/* A restriction of permissions under way (PR) takes no more than what EMODPR has taken already. */
bool in_use(const epcm_t *page)
{
	return (page->state & ~EPCM_PR) == EPCM_VALID;
}

/* Whether the page is really mapped, with whatever permissions. */
static bool is_visible(const slot_t *slot, uint64_t address)
{
	const struct swsgx_visible_run *runs = (const struct swsgx_visible_run *)slot->runs;
	uint32_t low = 0, high = slot->run_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (address < runs[middle].address)
			high = middle;
		else if (address - runs[middle].address >= runs[middle].length)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

/*
 * The driver installs no page under a VMA that is wider than the page's ceiling, whatever the access (kernel:
 * sgx_encl_load_page_in_vma). The ceiling itself is not known here, but a page that EPCM and VMA allow to be mapped,
 * and that is not mapped, has met it.
 */
bool above_ceiling(const slot_t *slot, uint64_t address)
{
	const uint8_t vma = ((const uint8_t *)slot->vma)[page_index(slot, address)];
	const epcm_t *page = epcm_of(slot, address);

	return page && page->pt == PT_REG && in_use(page) && page->perm & vma && !is_visible(slot, address);
}

/*
 * Why a native access to ELRANGE faulted, and the error code that hardware would have pushed. The host's own
 * code tells the kind of access; bit 0 is believed only where a VMA denies (SDM, "Access-control Requirements";
 * kernel: arch/x86/mm/fault.c, access_error).
 */
void explain_page_fault(const slot_t *slot, uint64_t address, uint64_t host_code, struct refusal *why)
{
	uint64_t kind = host_code & (PFEC_W | PFEC_I);
	uint8_t wanted = kind & PFEC_I ? VMA_X : kind & PFEC_W ? VMA_W : VMA_R;
	uint8_t vma = ((const uint8_t *)slot->vma)[page_index(slot, address)];
	const epcm_t *page = epcm_of(slot, address);
	uint64_t code = kind | PFEC_U;
	uint32_t check;

	if (!(vma & VMA_MAPPED)) {
		check = CHECK_PAGE_NOT_MAPPED;
	} else if (!(vma & wanted)) {
		check = CHECK_PAGE_VMA;
		/* The host maps no page that waits for an EACCEPT; the model knows whether it has an entry. */
		if (host_code & PFEC_P || (vma & VMA_PRESENT && vma & (VMA_R | VMA_W | VMA_X)))
			code |= PFEC_P;
	} else if (!page) {
		check = CHECK_PAGE_ABSENT;
	} else if (above_ceiling(slot, address)) {
		check = CHECK_PAGE_CEILING;
	} else if (page->pt != PT_REG || !in_use(page) || !(page->perm & wanted)) {
		check = CHECK_PAGE_EPCM;
		code |= PFEC_P | PFEC_SGX;
	} else {
		check = CHECK_PAGE_CEILING;
	}
	refuse(why, check, VECTOR_PF, code, address, wanted,
	       page && check == CHECK_PAGE_EPCM ? (uint64_t)page->perm | page->pt << 8 | page->state << 16 : vma);
}
