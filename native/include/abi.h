/* SPDX-License-Identifier: Apache-2.0 */
/* What Python and C look at together.
 * Written by tools/gen_headers.py from the Python tables; do not edit, edit those. */
#ifndef SWSGX_ABI_H
#define SWSGX_ABI_H

#include "isa.h"

/* constants of swsgx.native.abi */
#define FRAME_MAP_OFFSET                 0x1000
#define SLOT_COUNT                       1024
#define LP_COUNT                         0x1000
#define LP_SIZE                          0x20000
#define LP_STACK_OFFSET                  0x5000
#define LP_XSTATE_OFFSET                 0x1000
#define LP_GUARD_OFFSET                  0x4000
#define EXIT_KEYS                        256
#define EXIT_TABLE_SIZE                  0x1000
#define STEPPED_PAGES                    32
#define XSTATE_COMPONENTS                64
#define INJECTED_OPTION                  0x53475800
#define ASK_OPTION                       0x53475801
#define TRAP_DATA                        0x5357
#define MARK_SIZE                        0x5357
#define MARK_MODE                        0x83a6
#define CALLS_AT_ONCE                    8
#define AREA_COUNT                       64
#define FILTER_BYTES                     0x1000

/* State bits of an EPCM entry; EpcmEntry.state. */
#define EPCM_VALID                       1
#define EPCM_BLOCKED                     2
#define EPCM_PENDING                     4
#define EPCM_MODIFIED                    8
#define EPCM_PR                          16

/* What one process's mapping of one enclave page allows. */
#define VMA_R                            1
#define VMA_W                            2
#define VMA_X                            4
#define VMA_MAPPED                       8
#define VMA_PRESENT                      16
#define VMA_STALE                        32

/* struct swsgx_epcm_entry: swsgx */
#define SIZEOF_EPCM_ENTRY                32
#define EPCM_ENTRY_ENCLAVEADDRESS        0
#define EPCM_ENTRY_SECS                  8
#define EPCM_ENTRY_PT                    12
#define EPCM_ENTRY_PERM                  13
#define EPCM_ENTRY_STATE                 14
#define EPCM_ENTRY_HOME                  15
#define EPCM_ENTRY_EPOCH                 16

/* struct swsgx_enclave_head: swsgx */
#define SIZEOF_ENCLAVE_HEAD              0x1000
#define ENCLAVE_HEAD_BASEADDR            0
#define ENCLAVE_HEAD_SIZE                8
#define ENCLAVE_HEAD_ATTRIBUTES          16
#define ENCLAVE_HEAD_XFRM                24
#define ENCLAVE_HEAD_SSAFRAMESIZE        32
#define ENCLAVE_HEAD_MISCSELECT          36
#define ENCLAVE_HEAD_XSIZE               40
#define ENCLAVE_HEAD_SECS_FRAME          44
#define ENCLAVE_HEAD_GENERATION          48
#define ENCLAVE_HEAD_EID                 56
#define ENCLAVE_HEAD_RESERVED_64         64

/* How a process treats one enclave; EnclaveSlot.flags. */
#define SLOT_PATCH                       1
#define SLOT_HIDE                        2
#define SLOT_QUIET                       4
#define SLOT_WATCH                       8

/* Which rule of EENTER, ERESUME, EEXIT or an access inside refused. swsgx.cpu.enclu.refusals has the words. */
#define CHECK_NONE                       0
#define CHECK_LEAF_UNKNOWN               1
#define CHECK_LEAF_WRONG_SIDE            2
#define CHECK_THREAD_NOT_ATTACHED        3
#define CHECK_TCS_ALIGNED                4
#define CHECK_TCS_IN_EPC                 5
#define CHECK_AEP_CANONICAL              6
#define CHECK_TCS_EPCM_VALID             7
#define CHECK_TCS_EPCM_BLOCKED           8
#define CHECK_TCS_EPCM_ADDRESS           9
#define CHECK_TCS_EPCM_TYPE              10
#define CHECK_TCS_EPCM_PENDING           11
#define CHECK_OSSA_ALIGNED               12
#define CHECK_OFSBASE_ALIGNED            13
#define CHECK_OGSBASE_ALIGNED            14
#define CHECK_TCS_FLAGS_RESERVED         15
#define CHECK_ENCLAVE_INITIALISED        16
#define CHECK_MODE64                     17
#define CHECK_XFRM_IN_XCR0               18
#define CHECK_CSSA_BELOW_NSSA            19
#define CHECK_CSSA_NOT_ZERO              20
#define CHECK_SSA_IN_ELRANGE             21
#define CHECK_SSA_PAGING                 22
#define CHECK_SSA_EPCM                   23
#define CHECK_GPR_PAGING                 24
#define CHECK_GPR_EPCM                   25
#define CHECK_ENTRY_CANONICAL            26
#define CHECK_FSBASE_CANONICAL           27
#define CHECK_GSBASE_CANONICAL           28
#define CHECK_TCS_NOT_BUSY               29
#define CHECK_RIP_CANONICAL              30
#define CHECK_XRSTOR_IMAGE               31
#define CHECK_EXIT_TARGET_CANONICAL      32
#define CHECK_PAGE_NOT_MAPPED            33
#define CHECK_PAGE_VMA                   34
#define CHECK_PAGE_ABSENT                35
#define CHECK_PAGE_EPCM                  36
#define CHECK_PAGE_CEILING               37
#define CHECK_OUTSIDE_ELRANGE            38
#define CHECK_EXCEPTION                  39
#define CHECK_LEAF_NOT_MODELLED          40
#define CHECK_THREAD_TABLE_FULL          41
#define CHECK_ILLEGAL_INSTRUCTION        42
#define CHECK_FETCH_OUTSIDE              43
#define CHECK_LEAF_FAULT                 44

/* struct swsgx_registers: signal frame, struct sigcontext of the kernel's uapi */
#define SIZEOF_REGISTERS                 144
#define REGISTERS_R8                     0
#define REGISTERS_R9                     8
#define REGISTERS_R10                    16
#define REGISTERS_R11                    24
#define REGISTERS_R12                    32
#define REGISTERS_R13                    40
#define REGISTERS_R14                    48
#define REGISTERS_R15                    56
#define REGISTERS_RDI                    64
#define REGISTERS_RSI                    72
#define REGISTERS_RBP                    80
#define REGISTERS_RBX                    88
#define REGISTERS_RDX                    96
#define REGISTERS_RAX                    104
#define REGISTERS_RCX                    112
#define REGISTERS_RSP                    120
#define REGISTERS_RIP                    128
#define REGISTERS_RFLAGS                 136

/* struct swsgx_visible_run: swsgx */
#define SIZEOF_VISIBLE_RUN               32
#define VISIBLE_RUN_ADDRESS              0
#define VISIBLE_RUN_LENGTH               8
#define VISIBLE_RUN_PROT                 16
#define VISIBLE_RUN_PRIVATE              20

/* struct swsgx_grant: swsgx */
#define SIZEOF_GRANT                     64
#define GRANT_SERIAL                     0
#define GRANT_ACTIVE                     4
#define GRANT_BUSY                       8
#define GRANT_NEXT                       12
#define GRANT_END                        16

/* struct swsgx_enclave_slot: swsgx */
#define SIZEOF_ENCLAVE_SLOT              192
#define ENCLAVE_SLOT_BASE                0
#define ENCLAVE_SLOT_SIZE                8
#define ENCLAVE_SLOT_HEAD                16
#define ENCLAVE_SLOT_FRAMES              24
#define ENCLAVE_SLOT_CONTENTS            32
#define ENCLAVE_SLOT_VMA                 40
#define ENCLAVE_SLOT_EXIT_STUB           48
#define ENCLAVE_SLOT_EXIT_TABLE          56
#define ENCLAVE_SLOT_THREADS             64
#define ENCLAVE_SLOT_THREAD_CAPACITY     72
#define ENCLAVE_SLOT_THREAD_COUNT        76
#define ENCLAVE_SLOT_FLAGS               80
#define ENCLAVE_SLOT_EPCM                88
#define ENCLAVE_SLOT_EENTER_COUNT        96
#define ENCLAVE_SLOT_AEX_COUNT           104
#define ENCLAVE_SLOT_HIDDEN              112
#define ENCLAVE_SLOT_RUNS                120
#define ENCLAVE_SLOT_RUN_COUNT           128
#define ENCLAVE_SLOT_LOCK                132
#define ENCLAVE_SLOT_INSIDE              136
#define ENCLAVE_SLOT_AWAY                140
#define ENCLAVE_SLOT_CONTENTS_FD         144
#define ENCLAVE_SLOT_GRANT               152

/* struct swsgx_thread_record: swsgx */
#define SIZEOF_THREAD_RECORD             256
#define THREAD_RECORD_TCS                0
#define THREAD_RECORD_SLOT               8
#define THREAD_RECORD_HEAD               16
#define THREAD_RECORD_TCS_PAGE           24
#define THREAD_RECORD_GENERATION         32
#define THREAD_RECORD_ENTRY              40
#define THREAD_RECORD_FSBASE             48
#define THREAD_RECORD_GSBASE             56
#define THREAD_RECORD_GPR                64
#define THREAD_RECORD_SSA                72
#define THREAD_RECORD_CSSA               80
#define THREAD_RECORD_HOST_FSBASE        88
#define THREAD_RECORD_HOST_GSBASE        96
#define THREAD_RECORD_AEP                104
#define THREAD_RECORD_LP                 112
#define THREAD_RECORD_HOST_RFLAGS        120
#define THREAD_RECORD_EXIT_GSBASE        128

/* struct swsgx_logical_processor: swsgx */
#define SIZEOF_LOGICAL_PROCESSOR         0x1000
#define LOGICAL_PROCESSOR_RECORD         0
#define LOGICAL_PROCESSOR_FSBASE         8
#define LOGICAL_PROCESSOR_TID            16
#define LOGICAL_PROCESSOR_ATTACHED       20
#define LOGICAL_PROCESSOR_ENTER_RSP      24
#define LOGICAL_PROCESSOR_CHECK          32
#define LOGICAL_PROCESSOR_VECTOR         36
#define LOGICAL_PROCESSOR_ERROR_CODE     40
#define LOGICAL_PROCESSOR_ADDRESS        48
#define LOGICAL_PROCESSOR_EXPECTED       56
#define LOGICAL_PROCESSOR_FOUND          64
#define LOGICAL_PROCESSOR_RIP            72
#define LOGICAL_PROCESSOR_OLD_STACK      80
#define LOGICAL_PROCESSOR_INTERRUPT      104
#define LOGICAL_PROCESSOR_LAST_SIGNAL    108
#define LOGICAL_PROCESSOR_AEX_COUNT      112
#define LOGICAL_PROCESSOR_EENTER_COUNT   120
#define LOGICAL_PROCESSOR_PENDING        128
#define LOGICAL_PROCESSOR_PENDING_XSTATE 136
#define LOGICAL_PROCESSOR_SELECTOR       144
#define LOGICAL_PROCESSOR_DISPATCHING    145
#define LOGICAL_PROCESSOR_STEPPING       152
#define LOGICAL_PROCESSOR_STEPPED        160
#define LOGICAL_PROCESSOR_BLOCKED        416
#define LOGICAL_PROCESSOR_KEPT           424
#define LOGICAL_PROCESSOR_ADMITTED       432
#define LOGICAL_PROCESSOR_LEAF           440
#define LOGICAL_PROCESSOR_LEAF_LENGTH    444
#define LOGICAL_PROCESSOR_KEPT_INFO      448

/* struct swsgx_monitor_config: swsgx */
#define SIZEOF_MONITOR_CONFIG            192
#define MONITOR_CONFIG_LPS               0
#define MONITOR_CONFIG_SLOTS             8
#define MONITOR_CONFIG_XCR0              16
#define MONITOR_CONFIG_XSTATE            24
#define MONITOR_CONFIG_DISPATCH          32

/* struct swsgx_enclave_run: kernel uapi asm/sgx.h, struct sgx_enclave_run */
#define SIZEOF_ENCLAVE_RUN               256
#define ENCLAVE_RUN_TCS                  0
#define ENCLAVE_RUN_FUNCTION             8
#define ENCLAVE_RUN_EXCEPTION_VECTOR     12
#define ENCLAVE_RUN_EXCEPTION_ERROR_CODE 14
#define ENCLAVE_RUN_EXCEPTION_ADDR       16
#define ENCLAVE_RUN_USER_HANDLER         24
#define ENCLAVE_RUN_USER_DATA            32

/* struct swsgx_enclave_call: swsgx */
#define SIZEOF_ENCLAVE_CALL              448
#define ENCLAVE_CALL_RUN                 0
#define ENCLAVE_CALL_REGISTERS           256
#define ENCLAVE_CALL_FUNCTION            400
#define ENCLAVE_CALL_MXCSR               404
#define ENCLAVE_CALL_FCW                 408
#define ENCLAVE_CALL_RESULT              412
#define ENCLAVE_CALL_STACK               416
#define ENCLAVE_CALL_COUNT               424

/* What a supervised process wants of the supervisor; Request.op. */
#define ASK_CALL                         1
#define ASK_CONTINUE                     2
#define ASK_ARM                          3
#define ASK_FORK                         4
#define ASK_FORKED                       5
#define ASK_CHILD                        6
#define ASK_FAULT                        7
#define ASK_CODE                         8
#define ASK_EXPLAIN                      9
#define ASK_LEAF                         10
#define ASK_WATCH                        11
#define ASK_CALLED                       12

/* How the leaf of an Ask.LEAF ended; Request.result of the answer. */
#define LEAF_END_SILENT                  0
#define LEAF_END_RESULT                  1
#define LEAF_END_FAULT                   2
#define LEAF_END_AGAIN                   3

/* What the kernel makes of a leaf's page fault: SIGSEGV with SEGV_ACCERR or SEGV_MAPERR, or SIGBUS. */
#define LEAF_SIGNAL_ACCERR               0
#define LEAF_SIGNAL_MAPERR               1
#define LEAF_SIGNAL_BUS                  2

/* What the supervisor says to it. */
#define ANSWER_DONE                      0
#define ANSWER_CALLS                     1
#define ANSWER_PASS                      2
#define ANSWER_ARM_FIRST                 3
#define ANSWER_LAST                      4

/* Numbers of a HostCall that are no system calls: the image does them itself. */
#define OWN_CALL_PIN                     0x53475810
#define OWN_CALL_UNPIN                   0x53475811
#define OWN_CALL_FORGET                  0x53475812
#define OWN_CALL_GRANT                   0x53475813

/* struct swsgx_host_call: swsgx */
#define SIZEOF_HOST_CALL                 64
#define HOST_CALL_NUMBER                 0
#define HOST_CALL_ARG0                   8
#define HOST_CALL_ARG1                   16
#define HOST_CALL_ARG2                   24
#define HOST_CALL_ARG3                   32
#define HOST_CALL_ARG4                   40
#define HOST_CALL_ARG5                   48
#define HOST_CALL_RESULT                 56

/* struct swsgx_request: swsgx */
#define SIZEOF_REQUEST                   736
#define REQUEST_OP                       0
#define REQUEST_NUMBER                   4
#define REQUEST_KEY                      8
#define REQUEST_ARG0                     16
#define REQUEST_ARG1                     24
#define REQUEST_ARG2                     32
#define REQUEST_ARG3                     40
#define REQUEST_ARG4                     48
#define REQUEST_ARG5                     56
#define REQUEST_RESULT                   64
#define REQUEST_TOKEN                    72
#define REQUEST_COUNT                    80
#define REQUEST_BLOCKED                  88
#define REQUEST_CALLS                    96
#define REQUEST_ARGUMENTS                608

/* struct swsgx_target_state: swsgx */
#define SIZEOF_TARGET_STATE              1216
#define TARGET_STATE_KEY                 0
#define TARGET_STATE_SLOTS               8
#define TARGET_STATE_EXIT_STUB           16
#define TARGET_STATE_EXIT_STUB_SIZE      24
#define TARGET_STATE_EXIT_COMMON         32
#define TARGET_STATE_FILTER              40
#define TARGET_STATE_AREA_COUNT          48
#define TARGET_STATE_ARMED               52
#define TARGET_STATE_EXPLAIN             56
#define TARGET_STATE_WATCH               60
#define TARGET_STATE_AREAS               64
#define TARGET_STATE_LPS                 1088
#define TARGET_STATE_CALLED              1096

#ifndef __ASSEMBLER__

#include <stddef.h>
#include <stdint.h>

/* One page of the EPC, as the SDM's Enclave Page Cache Map describes it. */
struct swsgx_epcm_entry {
	uint64_t enclaveaddress; /* linear address of the page in its enclave, page aligned; 0 for SECS and VA */
	uint32_t secs; /* frame number of the SECS that owns the page; its own for a SECS */
	uint8_t pt; /* page type, PT_* */
	uint8_t perm; /* R 1, W 2, X 4 */
	uint8_t state; /* EPCM_* bits */
	uint8_t home; /* where the contents are: 0 enclave store at ENCLAVEADDRESS - BASEADDR, 1 EPC store at frame * 4096 */
	uint64_t epoch; /* the enclave's tracking epoch when BLOCKED, MODIFIED or PR was set */
	uint8_t reserved_24[8];
} __attribute__((packed, aligned(32)));
_Static_assert(sizeof(struct swsgx_epcm_entry) == 32, "size of swsgx_epcm_entry");
_Static_assert(offsetof(struct swsgx_epcm_entry, enclaveaddress) == 0, "swsgx_epcm_entry.enclaveaddress");
_Static_assert(offsetof(struct swsgx_epcm_entry, secs) == 8, "swsgx_epcm_entry.secs");
_Static_assert(offsetof(struct swsgx_epcm_entry, pt) == 12, "swsgx_epcm_entry.pt");
_Static_assert(offsetof(struct swsgx_epcm_entry, perm) == 13, "swsgx_epcm_entry.perm");
_Static_assert(offsetof(struct swsgx_epcm_entry, state) == 14, "swsgx_epcm_entry.state");
_Static_assert(offsetof(struct swsgx_epcm_entry, home) == 15, "swsgx_epcm_entry.home");
_Static_assert(offsetof(struct swsgx_epcm_entry, epoch) == 16, "swsgx_epcm_entry.epoch");
_Static_assert(offsetof(struct swsgx_epcm_entry, reserved_24) == 24, "swsgx_epcm_entry.reserved_24");

/* What EENTER must know of a SECS; the first page of an enclave's table region. */
struct swsgx_enclave_head {
	uint64_t baseaddr; /* linear address; a multiple of size */
	uint64_t size; /* bytes; a power of two */
	uint64_t attributes; /* SECS.ATTRIBUTES.FLAGS, INIT included */
	uint64_t xfrm; /* SECS.ATTRIBUTES.XFRM */
	uint32_t ssaframesize; /* pages in one SSA frame */
	uint32_t miscselect; /* SECS.MISCSELECT */
	uint32_t xsize; /* bytes of the XSAVE area for this XFRM */
	uint32_t secs_frame; /* frame number of the SECS */
	uint64_t generation; /* raised by whoever changes an EPCM entry, a mapping or a TCS; cached checks die with it */
	uint64_t eid; /* the enclave's unique number */
	uint8_t reserved_64[4032]; /* room to grow */
} __attribute__((packed, aligned(4096)));
_Static_assert(sizeof(struct swsgx_enclave_head) == 4096, "size of swsgx_enclave_head");
_Static_assert(offsetof(struct swsgx_enclave_head, baseaddr) == 0, "swsgx_enclave_head.baseaddr");
_Static_assert(offsetof(struct swsgx_enclave_head, size) == 8, "swsgx_enclave_head.size");
_Static_assert(offsetof(struct swsgx_enclave_head, attributes) == 16, "swsgx_enclave_head.attributes");
_Static_assert(offsetof(struct swsgx_enclave_head, xfrm) == 24, "swsgx_enclave_head.xfrm");
_Static_assert(offsetof(struct swsgx_enclave_head, ssaframesize) == 32, "swsgx_enclave_head.ssaframesize");
_Static_assert(offsetof(struct swsgx_enclave_head, miscselect) == 36, "swsgx_enclave_head.miscselect");
_Static_assert(offsetof(struct swsgx_enclave_head, xsize) == 40, "swsgx_enclave_head.xsize");
_Static_assert(offsetof(struct swsgx_enclave_head, secs_frame) == 44, "swsgx_enclave_head.secs_frame");
_Static_assert(offsetof(struct swsgx_enclave_head, generation) == 48, "swsgx_enclave_head.generation");
_Static_assert(offsetof(struct swsgx_enclave_head, eid) == 56, "swsgx_enclave_head.eid");
_Static_assert(offsetof(struct swsgx_enclave_head, reserved_64) == 64, "swsgx_enclave_head.reserved_64");

/* General registers in the order of the signal frame, so that one piece of C serves both. */
struct swsgx_registers {
	uint64_t r8;
	uint64_t r9;
	uint64_t r10;
	uint64_t r11;
	uint64_t r12;
	uint64_t r13;
	uint64_t r14;
	uint64_t r15;
	uint64_t rdi;
	uint64_t rsi;
	uint64_t rbp;
	uint64_t rbx;
	uint64_t rdx;
	uint64_t rax;
	uint64_t rcx;
	uint64_t rsp;
	uint64_t rip;
	uint64_t rflags;
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct swsgx_registers) == 144, "size of swsgx_registers");
_Static_assert(offsetof(struct swsgx_registers, r8) == 0, "swsgx_registers.r8");
_Static_assert(offsetof(struct swsgx_registers, r9) == 8, "swsgx_registers.r9");
_Static_assert(offsetof(struct swsgx_registers, r10) == 16, "swsgx_registers.r10");
_Static_assert(offsetof(struct swsgx_registers, r11) == 24, "swsgx_registers.r11");
_Static_assert(offsetof(struct swsgx_registers, r12) == 32, "swsgx_registers.r12");
_Static_assert(offsetof(struct swsgx_registers, r13) == 40, "swsgx_registers.r13");
_Static_assert(offsetof(struct swsgx_registers, r14) == 48, "swsgx_registers.r14");
_Static_assert(offsetof(struct swsgx_registers, r15) == 56, "swsgx_registers.r15");
_Static_assert(offsetof(struct swsgx_registers, rdi) == 64, "swsgx_registers.rdi");
_Static_assert(offsetof(struct swsgx_registers, rsi) == 72, "swsgx_registers.rsi");
_Static_assert(offsetof(struct swsgx_registers, rbp) == 80, "swsgx_registers.rbp");
_Static_assert(offsetof(struct swsgx_registers, rbx) == 88, "swsgx_registers.rbx");
_Static_assert(offsetof(struct swsgx_registers, rdx) == 96, "swsgx_registers.rdx");
_Static_assert(offsetof(struct swsgx_registers, rax) == 104, "swsgx_registers.rax");
_Static_assert(offsetof(struct swsgx_registers, rcx) == 112, "swsgx_registers.rcx");
_Static_assert(offsetof(struct swsgx_registers, rsp) == 120, "swsgx_registers.rsp");
_Static_assert(offsetof(struct swsgx_registers, rip) == 128, "swsgx_registers.rip");
_Static_assert(offsetof(struct swsgx_registers, rflags) == 136, "swsgx_registers.rflags");

/* Pages of an enclave that are really mapped in a process: what hiding moves away, and back. */
struct swsgx_visible_run {
	uint64_t address; /* linear address of the first page */
	uint64_t length; /* bytes, whole pages */
	uint32_t prot; /* PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4 */
	uint32_t private; /* 1: a private copy of the contents (executable pages), 0: shared */
	uint8_t reserved_24[8];
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct swsgx_visible_run) == 32, "size of swsgx_visible_run");
_Static_assert(offsetof(struct swsgx_visible_run, address) == 0, "swsgx_visible_run.address");
_Static_assert(offsetof(struct swsgx_visible_run, length) == 8, "swsgx_visible_run.length");
_Static_assert(offsetof(struct swsgx_visible_run, prot) == 16, "swsgx_visible_run.prot");
_Static_assert(offsetof(struct swsgx_visible_run, private) == 20, "swsgx_visible_run.private");
_Static_assert(offsetof(struct swsgx_visible_run, reserved_24) == 24, "swsgx_visible_run.reserved_24");

/* Pages that an enclave may accept by itself, one after the other, without asking: behind the mapping bytes. */
struct swsgx_grant {
	uint32_t serial; /* the supervisor's number for it */
	uint32_t active; /* the process's: that of the grant whose pages are mapped; another one, or 0, is none */
	uint32_t busy; /* 1: a thread is accepting a page */
	uint32_t next; /* page index in ELRANGE: accepted next */
	uint32_t end; /* page index: the first that is not granted */
	uint8_t reserved_20[44];
} __attribute__((packed, aligned(64)));
_Static_assert(sizeof(struct swsgx_grant) == 64, "size of swsgx_grant");
_Static_assert(offsetof(struct swsgx_grant, serial) == 0, "swsgx_grant.serial");
_Static_assert(offsetof(struct swsgx_grant, active) == 4, "swsgx_grant.active");
_Static_assert(offsetof(struct swsgx_grant, busy) == 8, "swsgx_grant.busy");
_Static_assert(offsetof(struct swsgx_grant, next) == 12, "swsgx_grant.next");
_Static_assert(offsetof(struct swsgx_grant, end) == 16, "swsgx_grant.end");
_Static_assert(offsetof(struct swsgx_grant, reserved_20) == 20, "swsgx_grant.reserved_20");

/* One enclave as one process maps it. base is written last and cleared first. */
struct swsgx_enclave_slot {
	uint64_t base; /* linear address of ELRANGE; 0: the slot is free */
	uint64_t size; /* bytes */
	uint64_t head; /* where EnclaveHead is mapped here */
	uint64_t frames; /* where the frame map is mapped here */
	uint64_t contents; /* where the enclave's contents are mapped for the monitor (shared, readable, writable) */
	uint64_t vma; /* where the mapping bytes (VMA_*) are */
	uint64_t exit_stub; /* the enclave's exit stub, within 2 GiB of its code; 0: none */
	uint64_t exit_table; /* the exit table, EXIT_TABLE_SIZE bytes */
	uint64_t threads; /* ThreadRecord array, one for each TCS that was ever entered here */
	uint32_t thread_capacity; /* entries in that array */
	uint32_t thread_count; /* entries in use */
	uint32_t flags; /* SLOT_* */
	uint8_t reserved_84[4];
	uint64_t epcm; /* where the EPCM is mapped here */
	uint64_t eenter_count; /* entries by the slow path, ERESUME included */
	uint64_t aex_count; /* asynchronous exits */
	uint64_t hidden; /* where the range lies while no thread is inside (SLOT_HIDE); size bytes, reserved */
	uint64_t runs; /* VisibleRun array */
	uint32_t run_count; /* entries in it */
	uint32_t lock; /* 1: somebody is moving the range or changing the runs */
	uint32_t inside; /* threads inside, and others that need the range in place */
	uint32_t away; /* 1: the range is hidden now */
	uint32_t contents_fd; /* the memfd of the contents, to map a run afresh where it cannot be moved */
	uint8_t reserved_148[4];
	uint64_t grant; /* where the Grant is; 0: nothing is ever granted here */
	uint8_t reserved_160[32];
} __attribute__((packed, aligned(64)));
_Static_assert(sizeof(struct swsgx_enclave_slot) == 192, "size of swsgx_enclave_slot");
_Static_assert(offsetof(struct swsgx_enclave_slot, base) == 0, "swsgx_enclave_slot.base");
_Static_assert(offsetof(struct swsgx_enclave_slot, size) == 8, "swsgx_enclave_slot.size");
_Static_assert(offsetof(struct swsgx_enclave_slot, head) == 16, "swsgx_enclave_slot.head");
_Static_assert(offsetof(struct swsgx_enclave_slot, frames) == 24, "swsgx_enclave_slot.frames");
_Static_assert(offsetof(struct swsgx_enclave_slot, contents) == 32, "swsgx_enclave_slot.contents");
_Static_assert(offsetof(struct swsgx_enclave_slot, vma) == 40, "swsgx_enclave_slot.vma");
_Static_assert(offsetof(struct swsgx_enclave_slot, exit_stub) == 48, "swsgx_enclave_slot.exit_stub");
_Static_assert(offsetof(struct swsgx_enclave_slot, exit_table) == 56, "swsgx_enclave_slot.exit_table");
_Static_assert(offsetof(struct swsgx_enclave_slot, threads) == 64, "swsgx_enclave_slot.threads");
_Static_assert(offsetof(struct swsgx_enclave_slot, thread_capacity) == 72, "swsgx_enclave_slot.thread_capacity");
_Static_assert(offsetof(struct swsgx_enclave_slot, thread_count) == 76, "swsgx_enclave_slot.thread_count");
_Static_assert(offsetof(struct swsgx_enclave_slot, flags) == 80, "swsgx_enclave_slot.flags");
_Static_assert(offsetof(struct swsgx_enclave_slot, reserved_84) == 84, "swsgx_enclave_slot.reserved_84");
_Static_assert(offsetof(struct swsgx_enclave_slot, epcm) == 88, "swsgx_enclave_slot.epcm");
_Static_assert(offsetof(struct swsgx_enclave_slot, eenter_count) == 96, "swsgx_enclave_slot.eenter_count");
_Static_assert(offsetof(struct swsgx_enclave_slot, aex_count) == 104, "swsgx_enclave_slot.aex_count");
_Static_assert(offsetof(struct swsgx_enclave_slot, hidden) == 112, "swsgx_enclave_slot.hidden");
_Static_assert(offsetof(struct swsgx_enclave_slot, runs) == 120, "swsgx_enclave_slot.runs");
_Static_assert(offsetof(struct swsgx_enclave_slot, run_count) == 128, "swsgx_enclave_slot.run_count");
_Static_assert(offsetof(struct swsgx_enclave_slot, lock) == 132, "swsgx_enclave_slot.lock");
_Static_assert(offsetof(struct swsgx_enclave_slot, inside) == 136, "swsgx_enclave_slot.inside");
_Static_assert(offsetof(struct swsgx_enclave_slot, away) == 140, "swsgx_enclave_slot.away");
_Static_assert(offsetof(struct swsgx_enclave_slot, contents_fd) == 144, "swsgx_enclave_slot.contents_fd");
_Static_assert(offsetof(struct swsgx_enclave_slot, reserved_148) == 148, "swsgx_enclave_slot.reserved_148");
_Static_assert(offsetof(struct swsgx_enclave_slot, grant) == 152, "swsgx_enclave_slot.grant");
_Static_assert(offsetof(struct swsgx_enclave_slot, reserved_160) == 160, "swsgx_enclave_slot.reserved_160");

/* One TCS in one process: what EENTER found out, and what EEXIT and AEX must restore. */
struct swsgx_thread_record {
	uint64_t tcs; /* linear address of the TCS; 0: free */
	uint64_t slot; /* its EnclaveSlot */
	uint64_t head; /* its EnclaveHead */
	uint64_t tcs_page; /* the TCS as the monitor sees it */
	uint64_t generation; /* EnclaveHead.generation at which the checks below were made; 0: never */
	uint64_t entry; /* BASEADDR + OENTRY */
	uint64_t fsbase; /* BASEADDR + OFSBASE */
	uint64_t gsbase; /* BASEADDR + OGSBASE */
	uint64_t gpr; /* GPRSGX of SSA[cssa] as the monitor sees it */
	uint64_t ssa; /* SSA[cssa] as the monitor sees it */
	uint32_t cssa; /* the CSSA that gpr, ssa and the page checks are for */
	uint8_t reserved_84[4];
	uint64_t host_fsbase; /* FS base outside, restored by EEXIT and AEX */
	uint64_t host_gsbase; /* GS base outside */
	uint64_t aep; /* RCX of EENTER or ERESUME */
	uint64_t lp; /* the LogicalProcessor that is inside; stale when TCS.STATE is inactive */
	uint64_t host_rflags; /* RFLAGS of EENTER or ERESUME; TF comes back from here */
	uint64_t exit_gsbase; /* the GS base by which EEXIT finds it, when it was published last */
	uint8_t reserved_136[120];
} __attribute__((packed, aligned(64)));
_Static_assert(sizeof(struct swsgx_thread_record) == 256, "size of swsgx_thread_record");
_Static_assert(offsetof(struct swsgx_thread_record, tcs) == 0, "swsgx_thread_record.tcs");
_Static_assert(offsetof(struct swsgx_thread_record, slot) == 8, "swsgx_thread_record.slot");
_Static_assert(offsetof(struct swsgx_thread_record, head) == 16, "swsgx_thread_record.head");
_Static_assert(offsetof(struct swsgx_thread_record, tcs_page) == 24, "swsgx_thread_record.tcs_page");
_Static_assert(offsetof(struct swsgx_thread_record, generation) == 32, "swsgx_thread_record.generation");
_Static_assert(offsetof(struct swsgx_thread_record, entry) == 40, "swsgx_thread_record.entry");
_Static_assert(offsetof(struct swsgx_thread_record, fsbase) == 48, "swsgx_thread_record.fsbase");
_Static_assert(offsetof(struct swsgx_thread_record, gsbase) == 56, "swsgx_thread_record.gsbase");
_Static_assert(offsetof(struct swsgx_thread_record, gpr) == 64, "swsgx_thread_record.gpr");
_Static_assert(offsetof(struct swsgx_thread_record, ssa) == 72, "swsgx_thread_record.ssa");
_Static_assert(offsetof(struct swsgx_thread_record, cssa) == 80, "swsgx_thread_record.cssa");
_Static_assert(offsetof(struct swsgx_thread_record, reserved_84) == 84, "swsgx_thread_record.reserved_84");
_Static_assert(offsetof(struct swsgx_thread_record, host_fsbase) == 88, "swsgx_thread_record.host_fsbase");
_Static_assert(offsetof(struct swsgx_thread_record, host_gsbase) == 96, "swsgx_thread_record.host_gsbase");
_Static_assert(offsetof(struct swsgx_thread_record, aep) == 104, "swsgx_thread_record.aep");
_Static_assert(offsetof(struct swsgx_thread_record, lp) == 112, "swsgx_thread_record.lp");
_Static_assert(offsetof(struct swsgx_thread_record, host_rflags) == 120, "swsgx_thread_record.host_rflags");
_Static_assert(offsetof(struct swsgx_thread_record, exit_gsbase) == 128, "swsgx_thread_record.exit_gsbase");
_Static_assert(offsetof(struct swsgx_thread_record, reserved_136) == 136, "swsgx_thread_record.reserved_136");

/* What a thread carries: the hidden enclave state of a logical processor, and room for the monitor. */
struct swsgx_logical_processor {
	uint64_t record; /* the ThreadRecord it is inside with; 0: not in enclave mode */
	uint64_t fsbase; /* its FS base outside, the key it is found by */
	uint32_t tid; /* kernel thread id */
	uint32_t attached; /* 1 while the block is in use */
	uint64_t enter_rsp; /* RSP at EENTER; the registers pushed below it let a signal complete the entry */
	uint32_t check; /* the last refusal or exception: which rule, CHECK_* */
	uint32_t vector; /* its vector */
	uint64_t error_code; /* its error code */
	uint64_t address; /* its address (#PF), or the operand's */
	uint64_t expected; /* what the rule wanted, as far as a number says it */
	uint64_t found; /* what was there */
	uint64_t rip; /* RIP of the instruction inside that raised it; 0 when raised outside */
	uint8_t old_stack[24]; /* the stack_t that was there before */
	uint32_t interrupt; /* 1: a signal asks that the call ends at the next AEX instead of resuming */
	uint32_t last_signal; /* the signal that arrived inside last */
	uint64_t aex_count; /* asynchronous exits on this thread */
	uint64_t eenter_count; /* entries by the slow path, ERESUME included */
	uint64_t pending; /* Registers that the slow path is about to load; lets a signal complete the entry */
	uint64_t pending_xstate; /* XSAVE image that goes with them; 0: vector state stays as it is */
	uint8_t selector; /* Syscall User Dispatch: 0 allow, 1 block; 1 while inside */
	uint8_t dispatching; /* 1: Syscall User Dispatch is on for this thread */
	uint8_t reserved_146[6];
	uint64_t stepping; /* how many pages of guards a host store is being dropped on */
	uint8_t stepped[256]; /* their addresses, u64 each */
	uint64_t blocked; /* signals that the program believes to be blocked and that never are, bit n-1 for signal n */
	uint64_t kept; /* of those, what was sent meanwhile */
	uint64_t admitted; /* of those, what a waiting call lets through */
	uint32_t leaf; /* in our own process: the ENCLU leaf that the thread left for, so that Python carries it out; 0: none */
	uint32_t leaf_length; /* bytes of that ENCLU */
	uint8_t kept_info[768]; /* their siginfo: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS */
	uint8_t reserved_1216[2880];
} __attribute__((packed, aligned(4096)));
_Static_assert(sizeof(struct swsgx_logical_processor) == 4096, "size of swsgx_logical_processor");
_Static_assert(offsetof(struct swsgx_logical_processor, record) == 0, "swsgx_logical_processor.record");
_Static_assert(offsetof(struct swsgx_logical_processor, fsbase) == 8, "swsgx_logical_processor.fsbase");
_Static_assert(offsetof(struct swsgx_logical_processor, tid) == 16, "swsgx_logical_processor.tid");
_Static_assert(offsetof(struct swsgx_logical_processor, attached) == 20, "swsgx_logical_processor.attached");
_Static_assert(offsetof(struct swsgx_logical_processor, enter_rsp) == 24, "swsgx_logical_processor.enter_rsp");
_Static_assert(offsetof(struct swsgx_logical_processor, check) == 32, "swsgx_logical_processor.check");
_Static_assert(offsetof(struct swsgx_logical_processor, vector) == 36, "swsgx_logical_processor.vector");
_Static_assert(offsetof(struct swsgx_logical_processor, error_code) == 40, "swsgx_logical_processor.error_code");
_Static_assert(offsetof(struct swsgx_logical_processor, address) == 48, "swsgx_logical_processor.address");
_Static_assert(offsetof(struct swsgx_logical_processor, expected) == 56, "swsgx_logical_processor.expected");
_Static_assert(offsetof(struct swsgx_logical_processor, found) == 64, "swsgx_logical_processor.found");
_Static_assert(offsetof(struct swsgx_logical_processor, rip) == 72, "swsgx_logical_processor.rip");
_Static_assert(offsetof(struct swsgx_logical_processor, old_stack) == 80, "swsgx_logical_processor.old_stack");
_Static_assert(offsetof(struct swsgx_logical_processor, interrupt) == 104, "swsgx_logical_processor.interrupt");
_Static_assert(offsetof(struct swsgx_logical_processor, last_signal) == 108, "swsgx_logical_processor.last_signal");
_Static_assert(offsetof(struct swsgx_logical_processor, aex_count) == 112, "swsgx_logical_processor.aex_count");
_Static_assert(offsetof(struct swsgx_logical_processor, eenter_count) == 120, "swsgx_logical_processor.eenter_count");
_Static_assert(offsetof(struct swsgx_logical_processor, pending) == 128, "swsgx_logical_processor.pending");
_Static_assert(offsetof(struct swsgx_logical_processor, pending_xstate) == 136, "swsgx_logical_processor.pending_xstate");
_Static_assert(offsetof(struct swsgx_logical_processor, selector) == 144, "swsgx_logical_processor.selector");
_Static_assert(offsetof(struct swsgx_logical_processor, dispatching) == 145, "swsgx_logical_processor.dispatching");
_Static_assert(offsetof(struct swsgx_logical_processor, reserved_146) == 146, "swsgx_logical_processor.reserved_146");
_Static_assert(offsetof(struct swsgx_logical_processor, stepping) == 152, "swsgx_logical_processor.stepping");
_Static_assert(offsetof(struct swsgx_logical_processor, stepped) == 160, "swsgx_logical_processor.stepped");
_Static_assert(offsetof(struct swsgx_logical_processor, blocked) == 416, "swsgx_logical_processor.blocked");
_Static_assert(offsetof(struct swsgx_logical_processor, kept) == 424, "swsgx_logical_processor.kept");
_Static_assert(offsetof(struct swsgx_logical_processor, admitted) == 432, "swsgx_logical_processor.admitted");
_Static_assert(offsetof(struct swsgx_logical_processor, leaf) == 440, "swsgx_logical_processor.leaf");
_Static_assert(offsetof(struct swsgx_logical_processor, leaf_length) == 444, "swsgx_logical_processor.leaf_length");
_Static_assert(offsetof(struct swsgx_logical_processor, kept_info) == 448, "swsgx_logical_processor.kept_info");
_Static_assert(offsetof(struct swsgx_logical_processor, reserved_1216) == 1216, "swsgx_logical_processor.reserved_1216");

/* What the monitor is told once for a process. */
struct swsgx_monitor_config {
	uint64_t lps; /* LP_COUNT blocks of LP_SIZE bytes, reserved, aligned to LP_SIZE; committed one by one */
	uint64_t slots; /* SLOT_COUNT EnclaveSlots */
	uint64_t xcr0; /* XCR0 of this machine */
	uint64_t xstate; /* XSTATE_COMPONENTS pairs of u32: offset and size of each component in the standard format */
	uint64_t dispatch; /* 1: let SYSCALL inside an enclave trap, by Syscall User Dispatch */
	uint8_t reserved_40[152];
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct swsgx_monitor_config) == 192, "size of swsgx_monitor_config");
_Static_assert(offsetof(struct swsgx_monitor_config, lps) == 0, "swsgx_monitor_config.lps");
_Static_assert(offsetof(struct swsgx_monitor_config, slots) == 8, "swsgx_monitor_config.slots");
_Static_assert(offsetof(struct swsgx_monitor_config, xcr0) == 16, "swsgx_monitor_config.xcr0");
_Static_assert(offsetof(struct swsgx_monitor_config, xstate) == 24, "swsgx_monitor_config.xstate");
_Static_assert(offsetof(struct swsgx_monitor_config, dispatch) == 32, "swsgx_monitor_config.dispatch");
_Static_assert(offsetof(struct swsgx_monitor_config, reserved_40) == 40, "swsgx_monitor_config.reserved_40");

/* The vDSO function's own argument. */
struct swsgx_enclave_run {
	uint64_t tcs;
	uint32_t function;
	uint16_t exception_vector;
	uint16_t exception_error_code;
	uint64_t exception_addr;
	uint64_t user_handler;
	uint64_t user_data;
	uint8_t reserved_40[216];
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct swsgx_enclave_run) == 256, "size of swsgx_enclave_run");
_Static_assert(offsetof(struct swsgx_enclave_run, tcs) == 0, "swsgx_enclave_run.tcs");
_Static_assert(offsetof(struct swsgx_enclave_run, function) == 8, "swsgx_enclave_run.function");
_Static_assert(offsetof(struct swsgx_enclave_run, exception_vector) == 12, "swsgx_enclave_run.exception_vector");
_Static_assert(offsetof(struct swsgx_enclave_run, exception_error_code) == 14, "swsgx_enclave_run.exception_error_code");
_Static_assert(offsetof(struct swsgx_enclave_run, exception_addr) == 16, "swsgx_enclave_run.exception_addr");
_Static_assert(offsetof(struct swsgx_enclave_run, user_handler) == 24, "swsgx_enclave_run.user_handler");
_Static_assert(offsetof(struct swsgx_enclave_run, user_data) == 32, "swsgx_enclave_run.user_data");
_Static_assert(offsetof(struct swsgx_enclave_run, reserved_40) == 40, "swsgx_enclave_run.reserved_40");

/* One call from Python into an enclave: all registers in, all registers out. */
struct swsgx_enclave_call {
	uint8_t run[256]; /* an EnclaveRun */
	uint8_t registers[144]; /* Registers: in RDI RSI RDX R8..R15; out all but RIP, as at the exit */
	uint32_t function; /* ENCLU leaf to start with: 2 EENTER, 3 ERESUME */
	uint32_t mxcsr; /* the caller's, restored after the call */
	uint32_t fcw; /* the caller's x87 control word, restored after the call */
	uint32_t result; /* what the vDSO function returned, as a 32-bit integer */
	uint64_t stack; /* first byte above the stack to make the call on, a multiple of 16 */
	uint64_t count; /* swsgx_round_trips: how often to enter */
	uint8_t reserved_432[16];
} __attribute__((packed, aligned(64)));
_Static_assert(sizeof(struct swsgx_enclave_call) == 448, "size of swsgx_enclave_call");
_Static_assert(offsetof(struct swsgx_enclave_call, run) == 0, "swsgx_enclave_call.run");
_Static_assert(offsetof(struct swsgx_enclave_call, registers) == 256, "swsgx_enclave_call.registers");
_Static_assert(offsetof(struct swsgx_enclave_call, function) == 400, "swsgx_enclave_call.function");
_Static_assert(offsetof(struct swsgx_enclave_call, mxcsr) == 404, "swsgx_enclave_call.mxcsr");
_Static_assert(offsetof(struct swsgx_enclave_call, fcw) == 408, "swsgx_enclave_call.fcw");
_Static_assert(offsetof(struct swsgx_enclave_call, result) == 412, "swsgx_enclave_call.result");
_Static_assert(offsetof(struct swsgx_enclave_call, stack) == 416, "swsgx_enclave_call.stack");
_Static_assert(offsetof(struct swsgx_enclave_call, count) == 424, "swsgx_enclave_call.count");
_Static_assert(offsetof(struct swsgx_enclave_call, reserved_432) == 432, "swsgx_enclave_call.reserved_432");

/* One system call that the supervisor has a process make. */
struct swsgx_host_call {
	uint64_t number; /* of the system call, or an OwnCall */
	uint64_t arg0;
	uint64_t arg1;
	uint64_t arg2;
	uint64_t arg3;
	uint64_t arg4;
	uint64_t arg5;
	uint64_t result; /* what it gave, filled in by the process; with LAST, before that: what it must give */
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct swsgx_host_call) == 64, "size of swsgx_host_call");
_Static_assert(offsetof(struct swsgx_host_call, number) == 0, "swsgx_host_call.number");
_Static_assert(offsetof(struct swsgx_host_call, arg0) == 8, "swsgx_host_call.arg0");
_Static_assert(offsetof(struct swsgx_host_call, arg1) == 16, "swsgx_host_call.arg1");
_Static_assert(offsetof(struct swsgx_host_call, arg2) == 24, "swsgx_host_call.arg2");
_Static_assert(offsetof(struct swsgx_host_call, arg3) == 32, "swsgx_host_call.arg3");
_Static_assert(offsetof(struct swsgx_host_call, arg4) == 40, "swsgx_host_call.arg4");
_Static_assert(offsetof(struct swsgx_host_call, arg5) == 48, "swsgx_host_call.arg5");
_Static_assert(offsetof(struct swsgx_host_call, result) == 56, "swsgx_host_call.result");

/* What a process asks, and the answer; in the process's memory. */
struct swsgx_request {
	uint32_t op; /* ASK_* */
	uint32_t number; /* CALL: of the system call */
	uint64_t key; /* TargetState.key */
	uint64_t arg0;
	uint64_t arg1;
	uint64_t arg2;
	uint64_t arg3;
	uint64_t arg4;
	uint64_t arg5;
	uint64_t result; /* answer: the result, as a system call's */
	uint64_t token; /* the supervisor's own, kept from answer to CONTINUE */
	uint32_t count; /* answer: how many of the calls to make; CONTINUE: how many were made */
	uint8_t reserved_84[4];
	uint64_t blocked; /* signals that the program blocks, bit n-1 for signal n */
	uint8_t calls[512]; /* CALLS_AT_ONCE HostCalls */
	uint8_t arguments[128]; /* what pointers among their arguments lead to */
} __attribute__((packed, aligned(8)));
_Static_assert(sizeof(struct swsgx_request) == 736, "size of swsgx_request");
_Static_assert(offsetof(struct swsgx_request, op) == 0, "swsgx_request.op");
_Static_assert(offsetof(struct swsgx_request, number) == 4, "swsgx_request.number");
_Static_assert(offsetof(struct swsgx_request, key) == 8, "swsgx_request.key");
_Static_assert(offsetof(struct swsgx_request, arg0) == 16, "swsgx_request.arg0");
_Static_assert(offsetof(struct swsgx_request, arg1) == 24, "swsgx_request.arg1");
_Static_assert(offsetof(struct swsgx_request, arg2) == 32, "swsgx_request.arg2");
_Static_assert(offsetof(struct swsgx_request, arg3) == 40, "swsgx_request.arg3");
_Static_assert(offsetof(struct swsgx_request, arg4) == 48, "swsgx_request.arg4");
_Static_assert(offsetof(struct swsgx_request, arg5) == 56, "swsgx_request.arg5");
_Static_assert(offsetof(struct swsgx_request, result) == 64, "swsgx_request.result");
_Static_assert(offsetof(struct swsgx_request, token) == 72, "swsgx_request.token");
_Static_assert(offsetof(struct swsgx_request, count) == 80, "swsgx_request.count");
_Static_assert(offsetof(struct swsgx_request, reserved_84) == 84, "swsgx_request.reserved_84");
_Static_assert(offsetof(struct swsgx_request, blocked) == 88, "swsgx_request.blocked");
_Static_assert(offsetof(struct swsgx_request, calls) == 96, "swsgx_request.calls");
_Static_assert(offsetof(struct swsgx_request, arguments) == 608, "swsgx_request.arguments");

/* What the supervisor must know of an armed process, and writes into it. */
struct swsgx_target_state {
	uint64_t key; /* which process this is, given by the supervisor; 0: not armed */
	uint64_t slots; /* the EnclaveSlot table */
	uint64_t exit_stub; /* the exit stub's code, to copy; its last 16 bytes are exit table and exit_common */
	uint64_t exit_stub_size; /* bytes */
	uint64_t exit_common; /* what goes into its last 8 bytes */
	uint64_t filter; /* FILTER_BYTES for the second filter's program, behind its struct sock_fprog */
	uint32_t area_count; /* entries of areas */
	uint32_t armed; /* 1: the monitor has the process's signals */
	uint32_t explain; /* 1: refusals and exceptions are to be told, ASK_EXPLAIN */
	uint32_t watch; /* the descriptor by which mappings of hidden enclaves are watched; 0: none */
	uint8_t areas[1024]; /* AREA_COUNT pairs of u64: ranges in which enclave mappings lie, ascending */
	uint64_t lps; /* LP_COUNT LogicalProcessors, LP_SIZE bytes apart */
	uint32_t called; /* 1: the SIGSYS that comes is the supervisor's, which has something to be done */
	uint8_t reserved_1100[116];
} __attribute__((packed, aligned(64)));
_Static_assert(sizeof(struct swsgx_target_state) == 1216, "size of swsgx_target_state");
_Static_assert(offsetof(struct swsgx_target_state, key) == 0, "swsgx_target_state.key");
_Static_assert(offsetof(struct swsgx_target_state, slots) == 8, "swsgx_target_state.slots");
_Static_assert(offsetof(struct swsgx_target_state, exit_stub) == 16, "swsgx_target_state.exit_stub");
_Static_assert(offsetof(struct swsgx_target_state, exit_stub_size) == 24, "swsgx_target_state.exit_stub_size");
_Static_assert(offsetof(struct swsgx_target_state, exit_common) == 32, "swsgx_target_state.exit_common");
_Static_assert(offsetof(struct swsgx_target_state, filter) == 40, "swsgx_target_state.filter");
_Static_assert(offsetof(struct swsgx_target_state, area_count) == 48, "swsgx_target_state.area_count");
_Static_assert(offsetof(struct swsgx_target_state, armed) == 52, "swsgx_target_state.armed");
_Static_assert(offsetof(struct swsgx_target_state, explain) == 56, "swsgx_target_state.explain");
_Static_assert(offsetof(struct swsgx_target_state, watch) == 60, "swsgx_target_state.watch");
_Static_assert(offsetof(struct swsgx_target_state, areas) == 64, "swsgx_target_state.areas");
_Static_assert(offsetof(struct swsgx_target_state, lps) == 1088, "swsgx_target_state.lps");
_Static_assert(offsetof(struct swsgx_target_state, called) == 1096, "swsgx_target_state.called");
_Static_assert(offsetof(struct swsgx_target_state, reserved_1100) == 1100, "swsgx_target_state.reserved_1100");

#endif /* __ASSEMBLER__ */

#endif /* SWSGX_ABI_H */
