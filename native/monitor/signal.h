/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's signal frame, as signal(7) and the uapi headers lay it out on x86-64. */
#ifndef SWSGX_SIGNAL_H
#define SWSGX_SIGNAL_H

#include <stdint.h>

#include "monitor.h"

struct kernel_stack {
	uint64_t sp;
	uint32_t flags;
	uint32_t pad;
	uint64_t size;
};

struct kernel_siginfo {
	int32_t signo;
	int32_t error;
	int32_t code;
	int32_t pad;
	uint64_t address;
	uint64_t rest[13];
};

struct kernel_ucontext {
	uint64_t flags;
	uint64_t link;
	struct kernel_stack stack;
	registers_t registers;
	uint16_t cs, gs, fs, ss;
	uint64_t error_code;
	uint64_t trap_number;
	uint64_t old_mask;
	uint64_t cr2;
	uint8_t *fpstate;
	uint64_t reserved[8];
	uint64_t signal_mask;
};

#define SIG_DEFAULT 0ul
#define SIG_IGNORE 1ul
#define SIGNAL_KILL 9
#define SIGNAL_TRAP 5
#define SIGNAL_ILL 4
#define SIGNAL_BUS 7
#define SIGNAL_FPE 8
#define SIGNAL_SEGV 11
#define SIGNAL_SYS 31
#define FLAG_SIGINFO 4ul
#define FLAG_NODEFER 0x40000000ul
#define FLAG_RESETHAND 0x80000000ul
#define FLAG_ONSTACK 0x08000000ul
#define FLAG_RESTART 0x10000000ul
#define FLAG_RESTORER 0x04000000ul
/* si_code */
#define CODE_KERNEL 0x80
#define CODE_ILL_ILLOPN 2
#define CODE_SEGV_MAPERR 1
#define CODE_SEGV_ACCERR 2
#define CODE_BUS_ADRERR 2
#define TRAP_TRACE 2
#define ENCLU_BYTES 3
#define SYSCALL_BYTES 2
#define INT3_BYTES 1
#define INT_N_BYTES 2
#define MASK_BLOCK 0
#define MASK_UNBLOCK 1
#define MASK_SET 2

/* main.c: give the calling thread a LogicalProcessor, and exchange the alternate stack of its signal frame. */
lp_t *swsgx_attach_frame(struct kernel_stack *stack) __attribute__((visibility("hidden")));
/* signal.c: whose alternate stack it is; NULL: not one of ours. */
lp_t *lp_of_stack(const struct kernel_stack *stack) __attribute__((visibility("hidden")));
/* signal.c: the monitor's own action in front of one of the program's. */
struct kernel_sigaction monitor_action(const struct kernel_sigaction *wanted) __attribute__((visibility("hidden")));

#endif
