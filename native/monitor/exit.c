// SPDX-License-Identifier: Apache-2.0
/*
 * EEXIT, the asynchronous exit, and the patch that makes the first cheap.
 * (SDM, "EEXIT"; "Asynchronous Enclave Exit (AEX)"; "Exit Information".)
 */
#include "monitor.h"

#include <asm/fcntl.h>
#include <asm/mman.h>

#include "sys.h"

#define EXIT_TYPE_SHIFT 8
#define EXIT_STATUS_FLAGS 0x108d5ul /* CF PF AF ZF SF OF RF: cleared in the synthetic state */

/* What every way out has in common; afterwards the TCS may be entered by anybody. */
static void outside(lp_t *lp, record_t *record)
{
	slot_t *slot = (slot_t *)record->slot;

	lp->selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	write_fsbase(record->host_fsbase);
	write_gsbase(record->host_gsbase);
	lp->record = 0;
	__atomic_store_n(&((struct sgx_tcs *)record->tcs_page)->state, 0, __ATOMIC_RELEASE);
	enclave_hide(slot);
}

void leave_enclave(lp_t *lp, registers_t *regs)
{
	record_t *record = (record_t *)lp->record;

	regs->rip = regs->rbx;
	regs->rcx = record->aep;
	regs->rflags = (regs->rflags & ~RFLAGS_TF) | record->host_rflags;
	outside(lp, record);
}

static uint32_t exit_information(const struct refusal *why, bool with_exinfo)
{
	switch (why->vector) {
	case VECTOR_DE:
	case VECTOR_DB:
	case VECTOR_BR:
	case VECTOR_UD:
	case VECTOR_MF:
	case VECTOR_AC:
	case VECTOR_XM:
		return EXITINFO_VALID | EXIT_TYPE_HARDWARE << EXIT_TYPE_SHIFT | why->vector;
	case VECTOR_BP:
		return EXITINFO_VALID | EXIT_TYPE_SOFTWARE << EXIT_TYPE_SHIFT | why->vector;
	case VECTOR_GP:
	case VECTOR_PF:
		return with_exinfo ? EXITINFO_VALID | EXIT_TYPE_HARDWARE << EXIT_TYPE_SHIFT | why->vector : 0;
	default:
		return 0;
	}
}

/* why: the exception, or NULL for an interrupt. fpstate: the signal frame's XSAVE image. */
void asynchronous_exit(lp_t *lp, registers_t *regs, uint8_t *fpstate, const struct refusal *why)
{
	record_t *record = (record_t *)lp->record;
	const head_t *head = (const head_t *)record->head;
	struct sgx_gprsgx *gpr = (struct sgx_gprsgx *)record->gpr;
	struct sgx_tcs *tcs = (struct sgx_tcs *)record->tcs_page;
	bool exinfo = head->miscselect & MISC_EXINFO;
	uint64_t available = *(const uint64_t *)(fpstate + 472); /* struct _fpx_sw_bytes, xfeatures */

	gpr->rax = regs->rax;
	gpr->rcx = regs->rcx;
	gpr->rdx = regs->rdx;
	gpr->rbx = regs->rbx;
	gpr->rsp = regs->rsp;
	gpr->rbp = regs->rbp;
	gpr->rsi = regs->rsi;
	gpr->rdi = regs->rdi;
	gpr->r8 = regs->r8;
	gpr->r9 = regs->r9;
	gpr->r10 = regs->r10;
	gpr->r11 = regs->r11;
	gpr->r12 = regs->r12;
	gpr->r13 = regs->r13;
	gpr->r14 = regs->r14;
	gpr->r15 = regs->r15;
	gpr->rflags = regs->rflags & ~RFLAGS_TF;
	gpr->rip = regs->rip;
	gpr->fsbase = read_fsbase();
	gpr->gsbase = read_gsbase();
	gpr->exitinfo = why ? exit_information(why, exinfo) : 0;
	if (why && exinfo && (why->vector == VECTOR_PF || why->vector == VECTOR_GP)) {
		struct sgx_exinfo *info = (struct sgx_exinfo *)(record->gpr - sizeof(*info));

		info->maddr = why->vector == VECTOR_PF ? why->address : 0;
		info->errcd = (uint32_t)why->error_code;
		zero_bytes(info->reserved_12, sizeof(info->reserved_12));
	}
	xstate_copy((uint8_t *)record->ssa, fpstate, head->xfrm, available);
	/* XSAVE leaves bits outside of its mask as they are in memory; an AEX clears them, and XCOMP_BV. */
	*(uint64_t *)(record->ssa + 512) &= head->xfrm;
	zero_bytes((uint8_t *)record->ssa + 520, 16);
	xstate_make_synthetic(fpstate, head->xfrm, why ? why->vector : 0);

	regs->rax = ENCLU_ERESUME;
	regs->rbx = record->tcs;
	regs->rcx = record->aep;
	regs->rip = record->aep;
	regs->rsp = gpr->ursp;
	regs->rbp = gpr->urbp;
	regs->rdx = regs->rsi = regs->rdi = 0;
	regs->r8 = regs->r9 = regs->r10 = regs->r11 = 0;
	regs->r12 = regs->r13 = regs->r14 = regs->r15 = 0;
	regs->rflags = (regs->rflags & ~(EXIT_STATUS_FLAGS | RFLAGS_TF)) | record->host_rflags;
	tcs->cssa = record->cssa + 1;
	lp->aex_count++;
	__atomic_fetch_add(&((slot_t *)record->slot)->aex_count, 1, __ATOMIC_RELAXED);
	outside(lp, record);
}

/*
 * Make an ENCLU of the program's own, outside, a HLT: it traps too, three times faster. One byte, through
 * /proc/self/mem, which needs no change of the page's protection and writes to a private copy.
 */
void patch_enclu_site(uint64_t enclu)
{
	static const uint8_t hlt = 0xf4;
	int fd;

	if ((enclu & (PAGE_BYTES - 1)) > PAGE_BYTES - 3)
		return; /* signal.c knows a HLT by the bytes behind it, in its page */
	fd = (int)sys_open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	sys_pwrite(fd, &hlt, 1, enclu);
	sys_close(fd);
}

static bool is_rex(uint8_t byte)
{
	return (byte & 0xf0) == 0x40;
}

/*
 * What a patched site jumps to first, behind the stub in the enclave's stub page: 16 bytes for each site. The access
 * faults where EEXIT would, with nothing lost but the site's address, and that is kept here for the handler.
 */
struct exit_site {
	uint8_t access[2]; /* mov (%rbx), %al */
	uint8_t jump; /* jmp exit stub */
	uint8_t distance[4];
	uint8_t pad;
	uint64_t enclu;
} __attribute__((packed, aligned(8)));

#define EXIT_SITE_JUMP_END 7
_Static_assert(sizeof(struct exit_site) == 16, "an exit site in the stub page");

static uint64_t first_exit_site(const slot_t *slot)
{
	return slot->exit_stub + (((uint64_t)(exit_stub_end - exit_stub_begin) + 15) & ~15ul);
}

/* The site whose 16 bytes hold the address, or NULL. */
static struct exit_site *exit_site_at(const slot_t *slot, uint64_t address)
{
	uint64_t first = first_exit_site(slot);

	if (!slot->exit_stub || address < first || address >= slot->exit_stub + PAGE_BYTES)
		return NULL;
	return (struct exit_site *)(address - (address - first) % sizeof(struct exit_site));
}

/*
 * The thread was stopped in the stub page of the enclave that it is inside. It leaves; unless RBX is not canonical:
 * then it is back at its ENCLU, which will say so. False: it was elsewhere.
 */
bool leave_by_stub(lp_t *lp, registers_t *regs)
{
	const slot_t *slot = (const slot_t *)((const record_t *)lp->record)->slot;
	const struct exit_site *site = exit_site_at(slot, regs->rip);

	if (!slot->exit_stub || regs->rip - slot->exit_stub >= PAGE_BYTES)
		return false;
	regs->rax = ENCLU_EEXIT;
	if (site && !canonical(regs->rbx))
		regs->rip = site->enclu;
	else
		leave_enclave(lp, regs);
	return true;
}

/* A place for a site, made if need be; 0: there is none left. Patching is locked. */
static uint64_t place_exit_site(slot_t *slot, uint64_t enclu)
{
	struct exit_site *end = (struct exit_site *)(slot->exit_stub + PAGE_BYTES - sizeof(*end));

	for (struct exit_site *site = (struct exit_site *)first_exit_site(slot); site <= end; site++) {
		uint32_t distance = (uint32_t)(slot->exit_stub - ((uint64_t)site + EXIT_SITE_JUMP_END));

		if (site->enclu == enclu)
			return (uint64_t)site;
		if (site->enclu)
			continue;
		if (sys_mprotect(slot->exit_stub, PAGE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC))
			return 0;
		*site = (struct exit_site){ .access = { 0x8a, 0x03 }, .jump = 0xe9, .enclu = enclu };
		copy_bytes(site->distance, &distance, sizeof(distance));
		sys_mprotect(slot->exit_stub, PAGE_BYTES, PROT_READ | PROT_EXEC);
		return (uint64_t)site;
	}
	return 0;
}

/* Two threads that patch at once would take each other's write permission away. Signals are blocked. */
void lock_patching(void)
{
	while (__atomic_exchange_n(&monitor_state.patching, 1, __ATOMIC_ACQUIRE))
		sys_sched_yield();
}

void unlock_patching(void)
{
	__atomic_store_n(&monitor_state.patching, 0, __ATOMIC_RELEASE);
}

/*
 * Put a jump to the exit stub over "mov eax, 4" in front of this ENCLU, or make the ENCLU a HLT, which traps
 * three times faster. The page is a private copy (MAP_PRIVATE): the enclave's measured contents do not change.
 * Only whole-word stores: another thread may be executing these very bytes.
 * The same bytes can be the end of another instruction (mov $4, %r8d; movabs): a REX prefix would tell, so where a
 * byte looks like one, the site is left to the HLT.
 */
void patch_exit_site(slot_t *slot, uint64_t enclu)
{
	uint64_t page = enclu & ~(PAGE_BYTES - 1);
	uint8_t vma = ((const uint8_t *)slot->vma)[(enclu - slot->base) >> PAGE_SHIFT];
	const epcm_t *epcm = epcm_of(slot, enclu);
	uint64_t mov = 0, place = 0;
	int64_t distance;

	if (!(slot->flags & SLOT_PATCH) || (vma & (VMA_R | VMA_W | VMA_X)) != (VMA_R | VMA_X))
		return;
	if (!epcm || (epcm->perm & VMA_W) || (enclu & (PAGE_BYTES - 1)) > PAGE_BYTES - 3)
		return;
	if (enclu - page >= 10 && *(const uint8_t *)(enclu - 5) == 0xb8 && *(const uint32_t *)(enclu - 4) == 4 &&
	    !is_rex(*(const uint8_t *)(enclu - 6)) && !is_rex(*(const uint8_t *)(enclu - 10)))
		mov = enclu - 5;
	else if (enclu - page >= 7 && (*(const uint64_t *)(enclu - 7) & 0xfffffffffffffful) == 0x4c0c748ul)
		mov = enclu - 7;
	if (mov && (!slot->exit_stub || slot->flags & SLOT_HIDE || (mov & 7) > 3))
		mov = 0;
	if (!mov && *(const volatile uint8_t *)enclu == 0xf4)
		return; /* it is one already */
	lock_patching();
	if (mov)
		place = place_exit_site(slot, enclu);
	distance = (int64_t)(place - (mov + 5));
	if (!place || distance != (int32_t)distance)
		mov = 0;
	if (sys_mprotect(page, PAGE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC)) {
		unlock_patching();
		return;
	}
	if (mov) {
		uint64_t *word = (uint64_t *)(mov & ~7ul);
		uint64_t shift = (mov & 7) * 8;
		uint64_t jump = 0xe9ul | (uint64_t)(uint32_t)distance << 8;

		__atomic_store_n(word, (*word & ~(0xfffffffffful << shift)) | jump << shift, __ATOMIC_RELEASE);
	} else {
		__atomic_store_n((uint8_t *)enclu, 0xf4, __ATOMIC_RELEASE);
	}
	sys_mprotect(page, PAGE_BYTES, PROT_READ | PROT_EXEC);
	unlock_patching();
}
