/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside an unmodified program: what is between its system calls and the supervisor.
 *
 * A process is *unarmed* until it first uses SGX. Then a small filter traps calls with paths, and few others; the
 * handler runs with an empty signal mask, makes calls again itself, and the program's own handlers are its own.
 * An *armed* process has the monitor in front of all its signals, and a second filter that traps memory calls,
 * signals and forks. Handlers run with all signals blocked, so that nothing here is ever interrupted; a call that may
 * block is made behind the handler's end, by a stub (calls.S).
 */
#ifndef SWSGX_SUPERVISED_H
#define SWSGX_SUPERVISED_H

#include "signal.h"
#include "monitor.h"

#pragma GCC visibility push(hidden)

#define SIGNAL_BIT(n) (1ul << ((n) - 1))
#define SYNCHRONOUS                                                                                       \
	(SIGNAL_BIT(SIGNAL_ILL) | SIGNAL_BIT(SIGNAL_TRAP) | SIGNAL_BIT(SIGNAL_BUS) | SIGNAL_BIT(SIGNAL_FPE) | \
	 SIGNAL_BIT(SIGNAL_SEGV) | SIGNAL_BIT(SIGNAL_SYS))
#define CODE_SECCOMP 1
#define SIGSET_BYTES 8
#define ERROR_PERMITTED (-1l)
#define ERROR_NO_ENTRY (-2l)
#define ERROR_INTERRUPTED (-4l)
#define ERROR_RESTART (-512l) /* of kernels, never seen by programs */
#define ERROR_NO_MEMORY (-12l)
#define ERROR_FAULT (-14l)
#define ERROR_INVALID (-22l)
#define ERROR_NO_CALL (-38l)

typedef struct swsgx_request request_t;
typedef struct swsgx_target_state target_t;

extern target_t target_state;

/* request.c: the supervisor, and program memory by pointers that may be bad. */
long copy_in(void *to, uint64_t from, uint64_t length);
long copy_out(uint64_t to, const void *from, uint64_t length);
/* Which answer it was: ANSWER_DONE, with request->result, or ANSWER_PASS. Signals are blocked meanwhile. */
uint32_t ask(request_t *request);
/* The program's system call; true: "result" is its result; false: it is none of ours. */
bool ask_call(const registers_t *r, uint64_t blocked, long *result);

/* Whether a signal was the supervisor's; then it is dealt with, wherever the thread is. */
bool supervisor_called(int signal, const struct kernel_siginfo *info, struct kernel_ucontext *uc, bool inside);
/* Have userfaultfd watch a mapping. */
void watch_mapping(uint64_t start, uint64_t length);
/* Whether any page has left the EPC; asked with a slot locked. */
bool pages_leave(void);
bool page_appears(const struct refusal *why);
/* A leaf of the enclave that the thread is inside, with its registers; false: "why" is the exception. */
bool ask_leaf(const slot_t *slot, registers_t *regs, uint32_t length, struct refusal *why);
void explain(const struct refusal *why);

/* grant.c: EACCEPT of a page that was granted. True: it is done; "length" are the bytes of the ENCLU. */
bool accept_granted(const slot_t *slot, registers_t *regs, uint32_t length);
void grant_mapped(const slot_t *slot, uint64_t serial);

/* request.c again */
/* A fault of the program's own in an enclave mapping: FAULT_*. */
enum { FAULT_OWN, FAULT_AGAIN, FAULT_BUS };
int host_fault(const struct kernel_ucontext *uc);
bool concerns_range(uint64_t address, uint64_t length);

/* arm.c */
bool arm(void);
/* The thread's LogicalProcessor, attached in the frame if need be; NULL: none left. */
lp_t *attach_in_frame(struct kernel_ucontext *uc);

/* actions.c: the program's signal actions, masks and alternate stacks. */
extern uint64_t owned_signals; /* whose action is kept here, not in the kernel */
uint64_t never_blocked(void);
long signal_action(const registers_t *r);
long signal_mask(const registers_t *r, lp_t *lp, struct kernel_ucontext *uc);
long pending_signals(const registers_t *r, const lp_t *lp);
/* A signal that was kept is in the set: rt_sigtimedwait(2) has it at once. */
bool wait_for_kept(const registers_t *r, lp_t *lp, long *result);
/* The end of a handler: what its frame says of signals that are never blocked is for the thread to believe. */
void signal_return_call(registers_t *r, lp_t *lp);
/* A signal that the program blocks and that cannot be: keep it. False: it is not one of those. */
bool keep_signal(int signal, const struct kernel_siginfo *info, lp_t *lp);
/* The mask bit of SIGSYS in the actions of an unarmed program's own signals. */
uint64_t believed_mask(int signal);
long alternate_stack(const registers_t *r, lp_t *lp, struct kernel_ucontext *uc);
void set_real_action(int signal);
bool is_vfork_child(void);
/* Whether the call that a signal interrupts is made again behind its handler. */
bool restarts(uint64_t blocked);
long set_blocked_by_call(const registers_t *r, lp_t *lp, bool armed, struct kernel_ucontext *uc);

/* deliver.c: a signal for the program's own handler, on the program's own stack. */
void deliver(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc, bool again);

/* process.c: fork, and the end of a thread. */
long fork_call(registers_t *r, lp_t *lp);
void thread_exit(registers_t *r, lp_t *lp, struct kernel_ucontext *uc);

/* tracing.c: whether a call that reaches into memory from outside can mean an enclave. */
bool concerns_ptrace(const registers_t *r);
bool concerns_memory_file(const registers_t *r);
bool concerns_vectors(const registers_t *r);

/* trap.c */
bool trapped_call(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc, lp_t *lp);
void supervised_prepare(uint64_t *stack);

/*
 * calls.S: a call of the program's own, made when the handler has returned. RSP is CALL_FRAME below the program's,
 * at struct call_frame; between call_begin and call_end signals find the program where it would be without us.
 */
#define CALL_FRAME 192
struct call_frame {
	uint64_t back; /* behind the program's SYSCALL */
	uint64_t rdi, r10, r8, r9; /* as the program had them */
	uint64_t set; /* a signal mask that the call is given instead */
	uint64_t pointer, length; /* and pselect6's argument with it */
};
extern const char call_begin[], call_made[], call_loaded[], call_end[];
/* Ends the thread, and frees the LogicalProcessor in RBX. */
extern const char exit_call[];
extern const char supervised_restorer[];
/* Goes on at a handler with a stack; all else as a signal leaves it. */
void start_handler(uint64_t signal, const void *info, const void *context, uint64_t handler, const void *stack)
	__attribute__((noreturn));

#pragma GCC visibility pop

#endif
