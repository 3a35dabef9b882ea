/* What an enclave of swsgx's own convention shares with its loader: the note and the thread page.
 *
 * docs/enclave-convention.md is the specification; swsgx.image.convention is the reader.
 * The offsets below are checked by the compiler here, and against the reader by tests/image/.
 */
#ifndef SWSGX_ENCLAVE_H
#define SWSGX_ENCLAVE_H

/* Offsets in the thread page, for entry code: %gs:THREAD_... ("offset" = from the enclave's base). */
#define THREAD_SELF 0          /* offset of this page */
#define THREAD_STACK_TOP 8     /* offset of the first byte above the stack */
#define THREAD_STACK_BOTTOM 16 /* offset of the lowest byte of the stack */
#define THREAD_INDEX 24        /* number of the thread, from 0 */
#define THREAD_SSA 32          /* offset of SSA frame 0 */
#define THREAD_SSA_FRAME 40    /* bytes in an SSA frame */
#define THREAD_HEAP 48         /* offset of the heap */
#define THREAD_HEAP_SIZE 56    /* bytes of heap */
#define THREAD_SIZE 64         /* bytes in the enclave's range */
#define THREAD_OWN 128         /* from here on the page is the enclave's own; zero at first */

/* Where a GPRSGX area lies, from the end of its SSA frame, and what the entry code reads in it. */
#define SSA_GPR_SIZE 184
#define SSA_GPR_RSP 32

#ifndef __ASSEMBLER__

#include <stdint.h>

struct swsgx_note {
	uint32_t namesz; /* 6 */
	uint32_t descsz; /* 64 */
	uint32_t type;	 /* 1 */
	char name[8];	 /* "swsgx" */
	uint32_t version;
	uint32_t ssaframesize; /* pages in an SSA frame */
	uint32_t nssa;	       /* SSA frames for each thread */
	uint32_t threads;
	uint64_t stack_pages; /* for each thread */
	uint64_t heap_pages;
	uint64_t size; /* bytes of the enclave's range; 0: the smallest that holds everything */
	uint64_t attributes;
	uint64_t xfrm;
	uint32_t miscselect;
	uint32_t reserved;
} __attribute__((packed, aligned(4)));

_Static_assert(sizeof(struct swsgx_note) == 20 + 64, "the note's descriptor has 64 bytes");

/* Defines the note. At file scope, once in an enclave: SWSGX_ENCLAVE(.attributes = 4, .xfrm = 3, ...). */
#define SWSGX_ENCLAVE(...)                                                                           \
	__attribute__((section(".note.swsgx"), used)) const struct swsgx_note swsgx_enclave_note = { \
		.namesz = 6, .descsz = 64, .type = 1, .name = "swsgx", .version = 1, __VA_ARGS__     \
	}

struct swsgx_thread {
	uint64_t self, stack_top, stack_bottom, index;
	uint64_t ssa, ssa_frame;
	uint64_t heap, heap_size;
	uint64_t size;
};

_Static_assert(__builtin_offsetof(struct swsgx_thread, stack_top) == THREAD_STACK_TOP, "thread page");
_Static_assert(__builtin_offsetof(struct swsgx_thread, index) == THREAD_INDEX, "thread page");
_Static_assert(__builtin_offsetof(struct swsgx_thread, ssa_frame) == THREAD_SSA_FRAME, "thread page");
_Static_assert(__builtin_offsetof(struct swsgx_thread, heap_size) == THREAD_HEAP_SIZE, "thread page");
_Static_assert(__builtin_offsetof(struct swsgx_thread, size) == THREAD_SIZE, "thread page");

/* The enclave's first byte. Offsets of the thread page are from here. */
extern char enclave_base[] __attribute__((visibility("hidden")));

/* This thread's page. */
static inline const struct swsgx_thread *enclave_thread(void)
{
	uint64_t self;

	__asm__("movq %%gs:0, %0" : "=r"(self));
	return (const struct swsgx_thread *)(enclave_base + self);
}

/* Whether [address, address + size) lies wholly outside the enclave: what a pointer from the host must do. */
static inline int enclave_outside(uint64_t address, uint64_t size)
{
	uint64_t base = (uint64_t)enclave_base;
	uint64_t end = base + enclave_thread()->size;

	return address + size >= address && (address >= end || address + size <= base);
}

/* General registers as an exit leaves them in an SSA frame (SDM, "GPRSGX Region"). */
struct swsgx_gpr {
	uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rflags, rip, ursp, urbp;
	uint32_t exitinfo;
	uint8_t reserved[3], aexnotify;
	uint64_t fsbase, gsbase;
};

_Static_assert(sizeof(struct swsgx_gpr) == SSA_GPR_SIZE, "GPRSGX has 184 bytes");
_Static_assert(__builtin_offsetof(struct swsgx_gpr, rsp) == SSA_GPR_RSP, "GPRSGX");

/* Page faults and #GP, in an enclave with MISCSELECT.EXINFO: right below GPRSGX. */
struct swsgx_exinfo {
	uint64_t maddr;
	uint32_t errcd, reserved;
};

#define EXITINFO_VALID 0x80000000u
#define EXITINFO_VECTOR 0xffu

/* What a call gives back: RDI and RSI at EEXIT. */
struct enclave_result {
	uint64_t status; /* RDI: 0, or one of ENCLAVE_... */
	uint64_t value;	 /* RSI */
};

enum {
	ENCLAVE_OK = 0,
	ENCLAVE_NO_SUCH_OPERATION = 1,
	ENCLAVE_BAD_POINTER = 2,
	ENCLAVE_BAD_ARGUMENT = 3,
	ENCLAVE_NOT_REPAIRED = 4, /* the exception handler cannot help; resuming would fault again */
	ENCLAVE_BAD_STACK = 5,	  /* the interrupted code was not on its enclave stack */
};

/* The enclave's own part: one function for calls, and one for exceptions. */
struct enclave_result enclave_call(uint64_t operation, uint64_t rsi, uint64_t rdx, uint64_t r8, uint64_t r9);

/* Looks at, and may change, the interrupted registers. ENCLAVE_OK: the host should ERESUME. */
struct enclave_result enclave_exception(struct swsgx_gpr *gpr, const struct swsgx_exinfo *exinfo);

#endif
#endif
