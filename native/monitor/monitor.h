/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ENCLU monitor: EENTER, ERESUME, EEXIT and AEX, inside the process that uses the enclave.
 *
 * Rules of this place:
 *  - no libc, no thread-local storage, no floating point or vector registers (-mgeneral-regs-only):
 *    while enclave code runs, FS and GS and all vector state are the enclave's;
 *  - all of it may run in a signal handler; raw system calls only, through sys.h;
 *  - the image has no relocation and no undefined symbol: data is reached relative to RIP, no pointer
 *    is initialised statically (a switch may become a table of pointers: -fno-jump-tables);
 *  - what is read from enclave contents (TCS, SSA) is read once: other threads can write the SSA.
 *
 * What it knows: monitor_state (one for a process), the tables of abi.h, and the LogicalProcessor of a
 * thread, which lies in the same block as the thread's alternate signal stack.
 */
#ifndef SWSGX_MONITOR_H
#define SWSGX_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/prctl.h>

#include "abi.h"
#include "api.h"
#include "isa.h"
#include "monitor_asm.h"

#pragma GCC visibility push(hidden)

#define PAGE_SHIFT 12
#define PAGE_BYTES 4096ul
#define RFLAGS_CF 0x1ul
#define RFLAGS_TF 0x100ul
#define RFLAGS_OF 0x800ul
#define RFLAGS_NT 0x4000ul
#define RFLAGS_RF 0x10000ul
#define RFLAGS_ID 0x200000ul
#define LAHF_FLAGS 0xd5ul /* SF ZF AF PF CF, as LAHF puts them into AH */

typedef struct swsgx_logical_processor lp_t;
typedef struct swsgx_thread_record record_t;
typedef struct swsgx_enclave_slot slot_t;
typedef struct swsgx_enclave_head head_t;
typedef struct swsgx_epcm_entry epcm_t;
typedef struct swsgx_registers registers_t;

/* The kernel's struct sigaction for rt_sigaction(2); libc's differs. */
struct kernel_sigaction {
	uint64_t handler;
	uint64_t flags;
	uint64_t restorer;
	uint64_t mask;
};

struct cache_line {
	uint64_t key;
	uint64_t value;
};

struct monitor_state {
	/* enclu.S finds these two; their offsets are in monitor_asm.h. */
	struct cache_line lp_cache[LP_CACHE_ENTRIES];	      /* FS base -> LogicalProcessor */
	struct cache_line record_cache[RECORD_CACHE_ENTRIES]; /* TCS -> ThreadRecord */
	uint64_t lps;
	slot_t *slots;
	const uint32_t *xstate;
	uint64_t xcr0;
	uint32_t mxcsr_mask;
	uint32_t dispatch;
	uint32_t patching; /* 1: a thread is patching an exit site */
	uint32_t supervised; /* 1: an unmodified program; its signals go to deliver() (native/supervised) */
	uint32_t pid; /* its process, as it sees itself; a vfork child is another one */
	struct kernel_sigaction old_actions[65];
};

extern struct monitor_state monitor_state;
_Static_assert(offsetof(struct monitor_state, record_cache) == RECORD_CACHE_OFFSET, "enclu.S");

/* An exception of an ENCLU leaf or inside an enclave, with the rule that raised it. */
struct refusal {
	uint32_t check;
	uint32_t vector;
	uint64_t error_code;
	uint64_t address;
	uint64_t expected;
	uint64_t found;
};

/* enter.c: the checks of EENTER and ERESUME, and what they change. */
record_t *enter_enclave(lp_t *lp, registers_t *regs, uint64_t after, uint8_t *xstate, struct refusal *why);
void load_bases(const record_t *record);

/* exit.c: EEXIT and AEX. */
void leave_enclave(lp_t *lp, registers_t *regs);
bool leave_by_stub(lp_t *lp, registers_t *regs);
void asynchronous_exit(lp_t *lp, registers_t *regs, uint8_t *fpstate, const struct refusal *why);
void patch_exit_site(slot_t *slot, uint64_t enclu);
void patch_enclu_site(uint64_t enclu);
void lock_patching(void);
void unlock_patching(void);

/* xstate.c: the standard XSAVE format under a mask. */
void xstate_copy(uint8_t *to, const uint8_t *from, uint64_t mask, uint64_t available);
void xstate_make_synthetic(uint8_t *frame, uint64_t xfrm, uint32_t vector);
bool xstate_loadable(const uint8_t *image, uint64_t xfrm);
uint32_t xstate_size(uint64_t mask);

/* hide.c: the range is in place only while somebody is inside. */
void enclave_show(slot_t *slot);
void enclave_hide(slot_t *slot);
bool host_access(lp_t *lp, uint64_t address, uint64_t code, registers_t *regs);
bool host_step(lp_t *lp, registers_t *regs);
void lock_slot(slot_t *slot);
void unlock_slot(slot_t *slot);
void nobody_inside(slot_t *slot);

/* illegal.c: instructions that the manual forbids inside, but that the host does not refuse as it says. */
bool illegal_inside(const registers_t *regs);

/* access.c: what the model says of an address inside ELRANGE. */
slot_t *slot_of(uint64_t address);
const epcm_t *epcm_of(const slot_t *slot, uint64_t address);
uint64_t contents_of(const slot_t *slot, uint64_t address);
bool in_use(const epcm_t *page);
bool above_ceiling(const slot_t *slot, uint64_t address);
void explain_page_fault(const slot_t *slot, uint64_t address, uint64_t host_code, struct refusal *why);

/* main.c */
lp_t *current_lp(void);
void release_lp(lp_t *lp);
void dispatch_system_calls(lp_t *lp);
record_t *record_for(slot_t *slot, uint64_t tcs);
void remember(lp_t *lp, const struct refusal *why);
void divert_to_fixup(registers_t *regs, const struct refusal *why);
record_t *enclu_slow(registers_t *regs); /* called by enclu.S */

/* enclu.S and the sites of ENCLU: addresses that a signal handler must know. */
extern const char exit_stub_begin[], exit_stub_end[];
extern const char exit_common[], exit_cleared_0[], exit_cleared_1[], exit_cleared_2[], exit_released[], exit_end[];
extern const char enter_locked[], enter_commit[], enter_unlock[];
extern const char enter_fast_begin[], enter_fast_end[], enter_slow_begin[], enter_slow_end[];
extern const char enter_aep[], enter_fixup[], enter_interrupted[];
extern const char enter_v23_aep[], enter_v23_fixup[];
extern const char signal_return[];
/* The image's own ELF header, from the linker. */
void image_code(uint64_t *begin, uint64_t *length);
extern const char image_header[] __asm__("__ehdr_start");

static inline bool canonical(uint64_t address)
{
	return address + (1ul << 47) < 1ul << 48;
}

static inline uint64_t read_fsbase(void)
{
	uint64_t value;

	__asm__ volatile("rdfsbase %0" : "=r"(value));
	return value;
}

static inline uint64_t read_gsbase(void)
{
	uint64_t value;

	__asm__ volatile("rdgsbase %0" : "=r"(value));
	return value;
}

static inline void write_fsbase(uint64_t value)
{
	__asm__ volatile("wrfsbase %0" : : "r"(value) : "memory");
}

static inline void write_gsbase(uint64_t value)
{
	__asm__ volatile("wrgsbase %0" : : "r"(value) : "memory");
}

/*
 * AC and NT are the program's or the enclave's to set, and neither the kernel nor an entry clears them: with AC,
 * compiled code faults on its own accesses; with NT, IRETQ faults.
 */
static inline void clear_unusual_flags(void)
{
	__asm__ volatile("pushfq\n\tandl $~0x44000, (%%rsp)\n\tpopfq" : : : "cc", "memory");
}

/* The flags of the mask become those of the value. */
static inline void write_flags(uint64_t value, uint64_t mask)
{
	__asm__ volatile("pushfq\n\tandq %1, (%%rsp)\n\torq %0, (%%rsp)\n\tpopfq"
			 :
			 : "r"(value & mask), "r"(~mask)
			 : "cc", "memory");
}

static inline void copy_bytes(void *to, const void *from, size_t count)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static inline void zero_bytes(void *to, size_t count)
{
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0) : "memory");
}

static inline bool refuse(struct refusal *why, uint32_t check, uint32_t vector, uint64_t error_code,
			  uint64_t address, uint64_t expected, uint64_t found)
{
	*why = (struct refusal){ check, vector, error_code, address, expected, found };
	return false;
}

#pragma GCC visibility pop

#endif
