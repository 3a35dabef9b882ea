// SPDX-License-Identifier: Apache-2.0
/*
 * EENTER and ERESUME: the checks in the order of the manual, and the state they make.
 * (SDM, "EENTER", "ERESUME"; "Enclave Entry and Exiting".)
 *
 * This is the full path. It leaves what it found in the ThreadRecord, together with the generation of the
 * enclave's tables; enclu.S enters by that record as long as the generation has not changed.
 *
 * Refused: nothing has changed, "why" says which rule. Granted: the TCS is locked, the record is filled, and
 * "regs" holds the registers that the enclave is to start with; the caller commits (LogicalProcessor.record,
 * FS and GS bases, registers), because only the caller knows how a signal could interrupt it.
 */
#include "monitor.h"

#define FRESUME_FLAGS 0x254cd5ul /* CF PF AF ZF SF DF OF NT RF AC ID, and the bit that is always 1 below */
#define RFLAGS_FIXED 0x2ul
#define TCS_STATE_ACTIVE 1

struct entry {
	lp_t *lp;
	slot_t *slot;
	const head_t *head;
	uint64_t tcs;
	struct sgx_tcs *page;
	uint32_t cssa; /* as it was looked at; another thread may be inside and change it */
	bool resume;
	uint64_t generation; /* of the tables, before anything was looked at */
};

static bool general_protection(struct refusal *why, uint32_t check, uint64_t expected, uint64_t found)
{
	return refuse(why, check, VECTOR_GP, 0, 0, expected, found);
}

static bool page_fault(struct refusal *why, uint32_t check, uint64_t address, uint64_t code, uint64_t found)
{
	return refuse(why, check, VECTOR_PF, code, address, 0, found);
}

/* Checks 2 to 6: the operand is a TCS of an enclave that this process maps. */
static bool find_tcs(struct entry *e, uint64_t aep, struct refusal *why)
{
	const uint64_t absent = PFEC_U | PFEC_W;
	const uint64_t denied = absent | PFEC_P | PFEC_SGX;
	const epcm_t *page;
	uint8_t vma;

	if (e->tcs & (PAGE_BYTES - 1))
		return general_protection(why, CHECK_TCS_ALIGNED, PAGE_BYTES, e->tcs);
	e->slot = slot_of(e->tcs);
	if (!e->slot)
		return page_fault(why, CHECK_TCS_IN_EPC, e->tcs, absent, 0);
	e->head = (const head_t *)e->slot->head;
	e->generation = __atomic_load_n(&e->head->generation, __ATOMIC_ACQUIRE);
	page = epcm_of(e->slot, e->tcs);
	vma = ((const uint8_t *)e->slot->vma)[(e->tcs - e->slot->base) >> PAGE_SHIFT];
	/* Stale: there is something that this process must do to its mappings before anybody enters. */
	if (!page || !(vma & VMA_R) || vma & VMA_STALE)
		return page_fault(why, CHECK_TCS_IN_EPC, e->tcs, absent, vma);
	if (!canonical(aep))
		return general_protection(why, CHECK_AEP_CANONICAL, 0, aep);
	if (!(page->state & EPCM_VALID))
		return page_fault(why, CHECK_TCS_EPCM_VALID, e->tcs, denied, page->state);
	if (page->state & EPCM_BLOCKED)
		return page_fault(why, CHECK_TCS_EPCM_BLOCKED, e->tcs, denied, page->state);
	if (page->enclaveaddress != e->tcs)
		return page_fault(why, CHECK_TCS_EPCM_ADDRESS, e->tcs, denied, page->enclaveaddress);
	if (page->pt != PT_TCS)
		return page_fault(why, CHECK_TCS_EPCM_TYPE, e->tcs, denied, page->pt);
	if (page->state & (EPCM_PENDING | EPCM_MODIFIED))
		return page_fault(why, CHECK_TCS_EPCM_PENDING, e->tcs, denied, page->state);
	e->page = (struct sgx_tcs *)contents_of(e->slot, e->tcs);
	e->cssa = __atomic_load_n(&e->page->cssa, __ATOMIC_ACQUIRE);
	return true;
}

/* Checks 7 to 13. */
static bool check_tcs(const struct entry *e, struct refusal *why)
{
	const struct sgx_tcs *tcs = e->page;
	const head_t *head = e->head;

	if (tcs->ossa & (PAGE_BYTES - 1))
		return general_protection(why, CHECK_OSSA_ALIGNED, PAGE_BYTES, tcs->ossa);
	if (tcs->ofsbase & (PAGE_BYTES - 1))
		return general_protection(why, CHECK_OFSBASE_ALIGNED, PAGE_BYTES, tcs->ofsbase);
	if (tcs->ogsbase & (PAGE_BYTES - 1))
		return general_protection(why, CHECK_OGSBASE_ALIGNED, PAGE_BYTES, tcs->ogsbase);
	if (tcs->flags & ~TCS_FLAG_DBGOPTIN)
		return general_protection(why, CHECK_TCS_FLAGS_RESERVED, TCS_FLAG_DBGOPTIN, tcs->flags);
	if (!(head->attributes & ATTR_INIT))
		return general_protection(why, CHECK_ENCLAVE_INITIALISED, ATTR_INIT, head->attributes);
	if (!(head->attributes & ATTR_MODE64BIT))
		return general_protection(why, CHECK_MODE64, ATTR_MODE64BIT, head->attributes);
	if (head->xfrm & ~monitor_state.xcr0)
		return general_protection(why, CHECK_XFRM_IN_XCR0, monitor_state.xcr0, head->xfrm);
	if (e->resume) {
		if (!e->cssa)
			return general_protection(why, CHECK_CSSA_NOT_ZERO, 1, 0);
	} else if (e->cssa >= tcs->nssa) {
		return general_protection(why, CHECK_CSSA_BELOW_NSSA, tcs->nssa, e->cssa);
	}
	return true;
}

static bool check_ssa_page(const struct entry *e, uint64_t address, uint32_t paging, uint32_t epcm,
			   struct refusal *why)
{
	const uint64_t absent = PFEC_U | PFEC_W;
	const epcm_t *page;
	uint8_t vma;

	if (address - e->slot->base >= e->slot->size)
		return page_fault(why, CHECK_SSA_IN_ELRANGE, address, absent, e->slot->size);
	vma = ((const uint8_t *)e->slot->vma)[(address - e->slot->base) >> PAGE_SHIFT];
	if ((vma & (VMA_R | VMA_W)) != (VMA_R | VMA_W))
		return page_fault(why, paging, address, absent, vma);
	page = epcm_of(e->slot, address);
	if (!page)
		return page_fault(why, paging, address, absent, vma);
	if (!in_use(page) || page->pt != PT_REG || page->enclaveaddress != address ||
	    page->secs != e->head->secs_frame || (page->perm & (VMA_R | VMA_W)) != (VMA_R | VMA_W))
		return page_fault(why, epcm, address, absent | PFEC_P | PFEC_SGX,
				  (uint64_t)page->perm | page->pt << 8 | page->state << 16);
	return true;
}

/* Checks 14 and 15: the pages of the XSAVE area, then the one that holds GPRSGX. */
static bool check_ssa(const struct entry *e, uint64_t frame, struct refusal *why)
{
	uint64_t last = frame + e->head->ssaframesize * PAGE_BYTES - PAGE_BYTES;

	for (uint64_t at = frame; at < frame + e->head->xsize; at += PAGE_BYTES)
		if (!check_ssa_page(e, at, CHECK_SSA_PAGING, CHECK_SSA_EPCM, why))
			return false;
	return check_ssa_page(e, last, CHECK_GPR_PAGING, CHECK_GPR_EPCM, why);
}

static uint64_t ssa_frame(const struct entry *e, uint32_t index)
{
	return e->head->baseaddr + e->page->ossa + (uint64_t)index * e->head->ssaframesize * PAGE_BYTES;
}

static struct sgx_gprsgx *gpr_of(const struct entry *e, uint64_t frame)
{
	return (struct sgx_gprsgx *)(contents_of(e->slot, frame) + e->head->ssaframesize * PAGE_BYTES -
				     sizeof(struct sgx_gprsgx));
}

static void unlock_tcs(const struct entry *e)
{
	__atomic_store_n(&e->page->state, 0, __ATOMIC_RELEASE);
}

/*
 * The last check: nobody else is in. Locking is checking. A thread that was inside while the checks ran, and left
 * by an AEX just now, has changed CSSA: then we were too late for the state that was checked, and it was busy.
 */
static bool lock_tcs(const struct entry *e, struct refusal *why)
{
	uint64_t inactive = 0;

	if (!__atomic_compare_exchange_n(&e->page->state, &inactive, TCS_STATE_ACTIVE, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return general_protection(why, CHECK_TCS_NOT_BUSY, 0, inactive);
	if (e->page->cssa != e->cssa) {
		unlock_tcs(e);
		return general_protection(why, CHECK_TCS_NOT_BUSY, 0, TCS_STATE_ACTIVE);
	}
	return true;
}

static void fill_record(record_t *record, const struct entry *e, uint32_t cssa, uint64_t frame)
{
	record->slot = (uint64_t)e->slot;
	record->head = (uint64_t)e->head;
	record->tcs_page = (uint64_t)e->page;
	record->cssa = cssa;
	record->ssa = contents_of(e->slot, frame);
	record->gpr = (uint64_t)gpr_of(e, frame);
	record->lp = (uint64_t)e->lp;
	record->host_fsbase = read_fsbase();
	record->host_gsbase = read_gsbase();
}

static bool eenter(const struct entry *e, record_t *record, registers_t *regs, uint64_t after,
		   struct refusal *why)
{
	uint64_t base = e->head->baseaddr;
	uint64_t frame = ssa_frame(e, e->cssa);
	struct sgx_gprsgx *gpr;

	if (!check_ssa(e, frame, why))
		return false;
	if (!canonical(base + e->page->oentry))
		return general_protection(why, CHECK_ENTRY_CANONICAL, 0, base + e->page->oentry);
	if (!canonical(base + e->page->ofsbase))
		return general_protection(why, CHECK_FSBASE_CANONICAL, 0, base + e->page->ofsbase);
	if (!canonical(base + e->page->ogsbase))
		return general_protection(why, CHECK_GSBASE_CANONICAL, 0, base + e->page->ogsbase);
	if (!lock_tcs(e, why))
		return false;

	fill_record(record, e, e->cssa, frame);
	record->entry = base + e->page->oentry;
	record->fsbase = base + e->page->ofsbase;
	record->gsbase = base + e->page->ogsbase;
	record->aep = regs->rcx;
	record->host_rflags = regs->rflags & RFLAGS_TF;
	/* A range that hides must be brought back by enclave_show(): no fast path. */
	__atomic_store_n(&record->generation, e->slot->flags & SLOT_HIDE ? 0 : e->generation, __ATOMIC_RELEASE);
	gpr = (struct sgx_gprsgx *)record->gpr;
	gpr->ursp = regs->rsp;
	gpr->urbp = regs->rbp;

	regs->rax = e->cssa;
	regs->rcx = after;
	regs->rip = record->entry;
	regs->rflags &= ~RFLAGS_TF;
	return true;
}

static void load_gprs(registers_t *regs, const struct sgx_gprsgx *gpr)
{
	regs->rax = gpr->rax;
	regs->rcx = gpr->rcx;
	regs->rdx = gpr->rdx;
	regs->rbx = gpr->rbx;
	regs->rsp = gpr->rsp;
	regs->rbp = gpr->rbp;
	regs->rsi = gpr->rsi;
	regs->rdi = gpr->rdi;
	regs->r8 = gpr->r8;
	regs->r9 = gpr->r9;
	regs->r10 = gpr->r10;
	regs->r11 = gpr->r11;
	regs->r12 = gpr->r12;
	regs->r13 = gpr->r13;
	regs->r14 = gpr->r14;
	regs->r15 = gpr->r15;
}

/* What ERESUME takes from GPRSGX must be usable; a copy, since the enclave's other threads can write there. */
static bool read_gprs(const struct entry *e, uint64_t frame, struct sgx_gprsgx *gpr, struct refusal *why)
{
	copy_bytes(gpr, gpr_of(e, frame), sizeof(*gpr));
	if (!canonical(gpr->rip))
		return general_protection(why, CHECK_RIP_CANONICAL, 0, gpr->rip);
	if (!canonical(gpr->fsbase))
		return general_protection(why, CHECK_FSBASE_CANONICAL, 0, gpr->fsbase);
	if (!canonical(gpr->gsbase))
		return general_protection(why, CHECK_GSBASE_CANONICAL, 0, gpr->gsbase);
	return true;
}

static bool eresume(const struct entry *e, record_t *record, registers_t *regs, uint8_t *xstate,
		    struct refusal *why)
{
	uint32_t cssa = e->cssa - 1;
	uint64_t frame = ssa_frame(e, cssa);
	uint64_t aep = regs->rcx;
	uint64_t flags = regs->rflags;
	struct sgx_gprsgx gpr;

	if (!check_ssa(e, frame, why) || !read_gprs(e, frame, &gpr, why) || !lock_tcs(e, why))
		return false;
	/* Whoever was inside until now may have filled the frame anew. */
	if (!read_gprs(e, frame, &gpr, why)) {
		unlock_tcs(e);
		return false;
	}
	copy_bytes(xstate, (const void *)contents_of(e->slot, frame), e->head->xsize);
	if (!xstate_loadable(xstate, e->head->xfrm)) {
		unlock_tcs(e);
		return general_protection(why, CHECK_XRSTOR_IMAGE, e->head->xfrm,
					  *(const uint64_t *)(xstate + 512));
	}

	fill_record(record, e, cssa, frame);
	record->entry = gpr.rip;
	record->fsbase = gpr.fsbase;
	record->gsbase = gpr.gsbase;
	record->aep = aep;
	record->host_rflags = flags & RFLAGS_TF;
	/* entry and bases are this frame's, not the TCS's: the fast path must look again. */
	__atomic_store_n(&record->generation, 0, __ATOMIC_RELEASE);
	e->page->cssa = cssa;
	e->page->aep = aep;

	load_gprs(regs, &gpr);
	regs->rip = gpr.rip;
	regs->rflags = (flags & ~(FRESUME_FLAGS | RFLAGS_TF)) | (gpr.rflags & FRESUME_FLAGS) | RFLAGS_FIXED;
	return true;
}

/*
 * regs: the registers at the ENCLU instruction (RAX leaf, RBX TCS, RCX AEP); "after": the address behind it.
 * xstate: room for an XSAVE image, 64-byte aligned; ERESUME fills it with what the enclave must start with.
 */
record_t *enter_enclave(lp_t *lp, registers_t *regs, uint64_t after, uint8_t *xstate, struct refusal *why)
{
	struct entry e = { .lp = lp, .tcs = regs->rbx, .resume = (uint32_t)regs->rax == ENCLU_ERESUME };
	record_t *record;
	bool granted;

	if (!find_tcs(&e, regs->rcx, why) || !check_tcs(&e, why))
		return NULL;
	record = record_for(e.slot, e.tcs);
	if (!record) {
		general_protection(why, CHECK_THREAD_TABLE_FULL, e.slot->thread_capacity, e.slot->thread_count);
		return NULL;
	}
	granted = e.resume ? eresume(&e, record, regs, xstate, why) : eenter(&e, record, regs, after, why);
	if (!granted)
		return NULL;
	enclave_show(e.slot);
	e.page->aep = record->aep;
	lp->eenter_count++;
	__atomic_fetch_add(&e.slot->eenter_count, 1, __ATOMIC_RELAXED);
	return record;
}

void load_bases(const record_t *record)
{
	write_fsbase(record->fsbase);
	write_gsbase(record->gsbase);
}
