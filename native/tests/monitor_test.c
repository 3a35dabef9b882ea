// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor's C under the address and undefined-behaviour sanitizers: an enclave made of random tables.
 *
 * The same sources as in the image, hosted. Each round spoils some bytes of TCS, EPCM, mapping bytes, frame map or SSA
 * and enters: a refusal must change nothing, an entry must leave a state that AEX and ERESUME can take up. The
 * sanitizers watch every access; buffers are exact, so that one byte too far is seen.
 *
 * Usage: monitor_test ROUNDS SEED
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "monitor.h"

#define PAGES 8
#define CODE 0
#define TCS 1
#define SSA 2
#define NSSA 3
#define FPSTATE_BYTES 4096

static struct {
	slot_t *slots;
	struct swsgx_epcm_entry *epcm;
	uint8_t *vma, *contents, *fpstate;
	head_t *head;
	uint32_t *frames;
	record_t *records;
	uint64_t base;
	uint32_t *xstate;
	lp_t *lp;
} world;

static uint64_t seed;

static uint64_t number(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t below(uint64_t limit)
{
	return number() % limit;
}

static void die(const char *what)
{
	fprintf(stderr, "monitor_test: %s\n", what);
	exit(1);
}

static void must(bool holds, const char *what)
{
	if (!holds)
		die(what);
}

static void *pages(uint64_t address, size_t size)
{
	void *got = mmap((void *)address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(got != MAP_FAILED, "no memory");
	return got;
}

static void make_world(void)
{
	struct swsgx_monitor_config config = { 0 };

	world.base = 0x100000000000ul;
	world.slots = aligned_alloc(64, SLOT_COUNT * sizeof(slot_t));
	memset(world.slots, 0, SLOT_COUNT * sizeof(slot_t));
	world.epcm = aligned_alloc(32, PAGES * sizeof(*world.epcm));
	world.vma = malloc(PAGES);
	world.contents = aligned_alloc(PAGE_BYTES, PAGES * PAGE_BYTES);
	world.head = aligned_alloc(PAGE_BYTES, sizeof(head_t));
	world.frames = malloc(PAGES * sizeof(uint32_t));
	world.records = aligned_alloc(64, 4 * sizeof(record_t));
	world.fpstate = aligned_alloc(64, FPSTATE_BYTES);
	world.xstate = calloc(2 * XSTATE_COMPONENTS, sizeof(uint32_t));
	world.xstate[4] = 576; /* AVX, as everywhere */
	world.xstate[5] = 256;
	config.lps = (uint64_t)pages(0, 2 * LP_SIZE);
	config.lps = (config.lps + LP_SIZE - 1) & ~(LP_SIZE - 1ul);
	world.lp = (lp_t *)config.lps;
	config.slots = (uint64_t)world.slots;
	config.xstate = (uint64_t)world.xstate;
	config.xcr0 = 7;
	swsgx_start(&config);
}

/* A good enclave, thread outside. */
static void reset(void)
{
	struct sgx_tcs *tcs = (struct sgx_tcs *)(world.contents + TCS * PAGE_BYTES);
	slot_t *slot = &world.slots[0];

	memset(world.contents, 0, PAGES * PAGE_BYTES);
	memset(world.head, 0, sizeof(*world.head));
	memset(world.records, 0, 4 * sizeof(record_t));
	memset(world.epcm, 0, PAGES * sizeof(*world.epcm));
	for (uint32_t i = 0; i < PAGES; i++) {
		world.epcm[i].enclaveaddress = world.base + i * PAGE_BYTES;
		world.epcm[i].pt = i == TCS ? PT_TCS : PT_REG;
		world.epcm[i].perm = i == TCS ? 0 : i == CODE ? 5 : 3;
		world.epcm[i].state = EPCM_VALID;
		world.frames[i] = i + 1;
		world.vma[i] = VMA_MAPPED | VMA_R | (i == CODE ? VMA_X : VMA_W);
	}
	tcs->ossa = SSA * PAGE_BYTES;
	tcs->nssa = NSSA;
	tcs->ofsbase = tcs->ogsbase = 6 * PAGE_BYTES;
	world.head->baseaddr = world.base;
	world.head->size = PAGES * PAGE_BYTES;
	world.head->attributes = ATTR_INIT | ATTR_MODE64BIT;
	world.head->xfrm = 7;
	world.head->ssaframesize = 1;
	world.head->miscselect = MISC_EXINFO;
	world.head->xsize = xstate_size(7);
	world.head->generation = 1;
	slot->size = PAGES * PAGE_BYTES;
	slot->head = (uint64_t)world.head;
	slot->frames = (uint64_t)world.frames;
	slot->contents = (uint64_t)world.contents;
	slot->vma = (uint64_t)world.vma;
	slot->epcm = (uint64_t)world.epcm;
	slot->threads = (uint64_t)world.records;
	slot->thread_capacity = 4;
	slot->base = world.base;
	memset(world.fpstate, 0, FPSTATE_BYTES);
	*(uint64_t *)(world.fpstate + 472) = 7;
	*(uint64_t *)(world.fpstate + 512) = 7;
	memset(world.lp, 0, sizeof(*world.lp));
	world.lp->attached = 1;
}

/* Spoil one thing somewhere. What the driver guarantees (a frame number is one of the EPC's) stays true. */
static void spoil(void)
{
	struct sgx_tcs *tcs = (struct sgx_tcs *)(world.contents + TCS * PAGE_BYTES);

	switch (below(8)) {
	case 0:
		world.contents[TCS * PAGE_BYTES + below(72)] ^= 1u << below(8);
		break;
	case 1:
		tcs->ossa = below(2) ? number() : below(2 * PAGES) * PAGE_BYTES;
		break;
	case 2:
		tcs->cssa = (uint32_t)(below(2) ? number() : below(NSSA + 2));
		break;
	case 3:
		((uint8_t *)&world.epcm[below(PAGES)])[below(16)] = (uint8_t)number();
		break;
	case 4:
		world.vma[below(PAGES)] = (uint8_t)number();
		break;
	case 5:
		world.frames[below(PAGES)] = (uint32_t)below(PAGES + 1);
		break;
	case 6: /* an SSA frame that the enclave itself has written */
		world.contents[SSA * PAGE_BYTES + below(NSSA * PAGE_BYTES)] = (uint8_t)number();
		break;
	default:
		world.head->attributes ^= 1ul << below(8);
	}
}

static void one_round(uint8_t *before, uint8_t *xstate)
{
	registers_t regs = { .rcx = 0x401000, .rflags = 0x202, .rsp = 0x7fff0000 }, start;
	struct refusal why = { 0 };
	record_t *record;
	struct sgx_tcs *tcs;

	reset();
	for (uint64_t i = below(4); i; i--)
		spoil();
	regs.rax = below(2) ? ENCLU_EENTER : ENCLU_ERESUME;
	regs.rbx = world.base + (below(8) ? TCS * PAGE_BYTES : below((PAGES + 1) * PAGE_BYTES));
	start = regs;
	memcpy(before, world.contents, PAGES * PAGE_BYTES);
	record = enter_enclave(world.lp, &regs, 0x401003, xstate, &why);
	if (!record) {
		must(!memcmp(before, world.contents, PAGES * PAGE_BYTES), "a refusal changed the enclave");
		must(!memcmp(&start, &regs, sizeof(regs)), "a refusal changed registers");
		must(why.check != CHECK_NONE, "a refusal without a reason");
		return;
	}
	tcs = (struct sgx_tcs *)record->tcs_page;
	must(tcs->state == 1, "entered, and the TCS is not busy");
	must(record->cssa == (regs.rax == 0 && start.rax == ENCLU_EENTER ? tcs->cssa : record->cssa), "wrong frame");
	world.lp->record = (uint64_t)record;
	if (below(2)) {
		refuse(&why, CHECK_EXCEPTION, (uint32_t)below(22), number() & 0xffff, world.base + below(PAGES * PAGE_BYTES),
		       0, 0);
		asynchronous_exit(world.lp, &regs, world.fpstate, below(4) ? &why : NULL);
		must(regs.rip == 0x401000 && regs.rax == ENCLU_ERESUME, "an AEX that does not lead to the AEP");
		must(tcs->cssa == record->cssa + 1, "an AEX that does not count");
	} else {
		regs.rbx = 0x401003;
		leave_enclave(world.lp, &regs);
		must(regs.rip == 0x401003 && regs.rcx == 0x401000, "an exit to somewhere else");
	}
	must(!world.lp->record && !tcs->state, "outside, and still inside");
}

int main(int argc, char **argv)
{
	uint8_t *before = malloc(PAGES * PAGE_BYTES);
	uint8_t *xstate = aligned_alloc(64, 0x3000);
	uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000;

	seed = (argc > 2 ? strtoull(argv[2], NULL, 0) : 1) * 0x9e3779b97f4a7c15ul | 1;
	make_world();
	for (uint64_t i = 0; i < rounds; i++)
		one_round(before, xstate);
	free(before);
	free(xstate);
	printf("%lu rounds ok\n", rounds);
	return 0;
}
