// SPDX-License-Identifier: Apache-2.0
/*
 * Asking the supervisor: prctl with an option that no kernel has, which the filter turns into a notification. The
 * request lies in this process's memory; the supervisor reads and writes it there, and may have us make system calls
 * before it answers. Program memory is looked at by a system call first, so that a bad pointer is EFAULT and no fault.
 */
#include "supervised.h"

#include "sys.h"

#include <linux/ioctl.h>
#include <linux/userfaultfd.h>

target_t target_state;

#define NO_SUCH_HOW (-1)
#define MOV_EAX_BYTES 5
/* Of target_state.watch, besides the descriptor (engine.py has the same). */
#define WATCH_LEAVE 0x80000000u

/*
 * A call of rt_sigprocmask that is wrong reads its mask before it says so; rt_sigpending writes as many bytes as it is
 * told. A program's own filters let both pass, where process_vm_readv may end it.
 */
static bool readable(uint64_t at)
{
	return sys_sigprocmask(NO_SUCH_HOW, (const uint64_t *)(at & ~7ul), NULL) == ERROR_INVALID;
}

static bool writable(uint64_t at)
{
	return !sys_call4(__NR_rt_sigpending, (long)at, 1, 0, 0);
}

static bool probe(uint64_t at, uint64_t length, bool (*possible)(uint64_t))
{
	const uint64_t end = at + length;

	for (; at < end; at = (at & ~(PAGE_BYTES - 1)) + PAGE_BYTES)
		if (!possible(at))
			return false;
	return true;
}

long copy_in(void *to, uint64_t from, uint64_t length)
{
	if (from + length < from || !probe(from, length, readable))
		return ERROR_FAULT;
	copy_bytes(to, (const void *)from, length);
	return 0;
}

long copy_out(uint64_t to, const void *from, uint64_t length)
{
	if (to + length < to || !probe(to, length, writable))
		return ERROR_FAULT;
	copy_bytes((void *)to, from, length);
	return 0;
}

static long make_call(const struct swsgx_host_call *call)
{
	switch (call->number) {
	case OWN_CALL_PIN:
		enclave_show((slot_t *)call->arg0);
		return 0;
	case OWN_CALL_UNPIN:
		enclave_hide((slot_t *)call->arg0);
		return 0;
	case OWN_CALL_GRANT:
		grant_mapped((const slot_t *)call->arg0, call->arg1);
		return 0;
	case OWN_CALL_FORGET:
		swsgx_forget(call->arg0, call->arg1);
		return 0;
	default:
		return sys_call6((long)call->number, (long)call->arg0, (long)call->arg1, (long)call->arg2,
				 (long)call->arg3, (long)call->arg4, (long)call->arg5);
	}
}

/* Make the calls of an answer. True: each gave what was expected. */
static bool make_calls(request_t *request)
{
	bool expected = true;

	for (uint32_t i = 0; i < request->count && i < CALLS_AT_ONCE; i++) {
		struct swsgx_host_call *call = (struct swsgx_host_call *)request->calls + i;
		uint64_t result = (uint64_t)make_call(call);

		expected &= result == call->result;
		call->result = result;
	}
	request->op = ASK_CONTINUE;
	return expected;
}

static uint32_t ask_blocked(request_t *request)
{
	const uint32_t op = request->op;

	for (;;) {
		long answer = sys_call4(__NR_prctl, ASK_OPTION, (long)request, 0, 0);

		switch (answer) {
		case ANSWER_CALLS:
			make_calls(request);
			break;
		case ANSWER_LAST:
			if (make_calls(request))
				return ANSWER_DONE;
			break;
		case ANSWER_ARM_FIRST:
			if (!arm()) {
				request->result = (uint64_t)ERROR_PERMITTED;
				return ANSWER_DONE;
			}
			request->op = op;
			request->key = target_state.key;
			break;
		case ANSWER_PASS:
		case ANSWER_DONE:
			return (uint32_t)answer;
		default: /* there is no supervisor any more, and so no machine: a clear end */
			sys_call4(__NR_kill, sys_getpid(), SIGNAL_KILL, 0, 0);
		}
	}
}

uint32_t ask(request_t *request)
{
	uint64_t all = ~0ul, before = 0;
	const bool armed = target_state.armed;
	uint32_t answer;

	request->key = target_state.key;
	sys_sigprocmask(MASK_SET, &all, &before);
	answer = ask_blocked(request);
	/* Arming makes signals ours that the program must not block from then on. */
	if (!armed)
		before &= ~never_blocked();
	sys_sigprocmask(MASK_SET, &before, NULL);
	return answer;
}

bool ask_call(const registers_t *r, uint64_t blocked, long *result)
{
	request_t request = {
		.op = ASK_CALL,
		.blocked = blocked,
		.number = (uint32_t)r->rax,
		.arg0 = r->rdi,
		.arg1 = r->rsi,
		.arg2 = r->rdx,
		.arg3 = r->r10,
		.arg4 = r->r8,
		.arg5 = r->r9,
	};

	if (ask(&request) == ANSWER_PASS)
		return false;
	*result = (long)request.result;
	return true;
}

int host_fault(const struct kernel_ucontext *uc)
{
	request_t request = { .op = ASK_FAULT, .arg0 = uc->cr2, .arg1 = uc->error_code };

	if (!concerns_range(uc->cr2, 1) || ask(&request) != ANSWER_DONE)
		return FAULT_OWN;
	return (int)request.result;
}

/*
 * A system call that a signal ends, and that the kernel does not make again behind a handler, is made again: the number
 * stands in the code before it, as compilers and libraries put it (MOV EAX, imm32). A wait begins anew.
 */
static void call_again(registers_t *r)
{
	const uint8_t *code = (const uint8_t *)r->rip - SYSCALL_BYTES - MOV_EAX_BYTES;
	uint32_t number;

	if ((long)r->rax != ERROR_INTERRUPTED || (r->rip & (PAGE_BYTES - 1)) < SYSCALL_BYTES + MOV_EAX_BYTES)
		return;
	if (code[0] != 0xb8 || code[MOV_EAX_BYTES] != 0x0f || code[MOV_EAX_BYTES + 1] != 0x05)
		return;
	copy_bytes(&number, code + 1, sizeof(number));
	r->rax = number;
	r->rip -= SYSCALL_BYTES;
}

/* The supervisor has something for this process to do and does not wait for a question (service.py, follow). */
bool supervisor_called(int signal, const struct kernel_siginfo *info, struct kernel_ucontext *uc, bool inside)
{
	request_t request = { .op = ASK_CALLED };

	if (signal != SIGNAL_SYS || info->code > 0 || !__atomic_exchange_n(&target_state.called, 0, __ATOMIC_ACQUIRE))
		return false;
	ask(&request);
	if (!inside && restarts(uc->signal_mask))
		call_again(&uc->registers);
	return true;
}

/* Have the supervisor tell the user, if he wants to know. Signals are blocked. */
void explain(const struct refusal *why)
{
	request_t request = {
		.op = ASK_EXPLAIN,
		.arg0 = why->check,
		.arg1 = why->vector,
		.arg2 = why->error_code,
		.arg3 = why->address,
		.arg4 = why->expected,
		.arg5 = why->found,
	};

	/* Of a leaf's fault it knows more than we do. */
	if (target_state.explain && why->check != CHECK_LEAF_FAULT)
		ask(&request);
}

bool ask_leaf(const slot_t *slot, registers_t *regs, uint32_t length, struct refusal *why)
{
	request_t request = {
		.op = ASK_LEAF,
		.key = target_state.key,
		.arg0 = (uint32_t)regs->rax,
		.arg1 = (uint64_t)slot,
		.arg2 = regs->rbx,
		.arg3 = regs->rcx,
		.arg4 = regs->rdx,
	};

	if (accept_granted(slot, regs, length))
		return true;
	ask_blocked(&request);
	if (request.result == LEAF_END_FAULT)
		return refuse(why, CHECK_LEAF_FAULT, (uint32_t)request.arg0, request.arg1, request.arg2, request.arg3, 0);
	if (request.result == LEAF_END_AGAIN)
		return true;
	if (request.result == LEAF_END_RESULT) {
		regs->rax = request.arg0;
		regs->rflags = (regs->rflags & ~(LAHF_FLAGS | RFLAGS_OF)) | request.arg1;
	}
	regs->rflags &= ~RFLAGS_RF;
	regs->rip += length;
	return true;
}

/* Whether the machine, or another process, can have a page where there was none when this fault was explained. */
static bool may_appear(const struct refusal *why)
{
	switch (why->check) {
	case CHECK_PAGE_ABSENT:
	case CHECK_PAGE_CEILING:
		return true;
	case CHECK_TCS_IN_EPC: /* of an entry; where the mapping forbids the access, the page does not matter */
	case CHECK_SSA_PAGING:
	case CHECK_GPR_PAGING:
		return (why->found & (VMA_R | VMA_W)) == (VMA_R | VMA_W);
	default:
		return false;
	}
}

/* A page fault that the driver is asked about. True: there is a page now, the instruction can be tried again. */
bool page_appears(const struct refusal *why)
{
	request_t request = { .op = ASK_FAULT, .arg0 = why->address, .arg1 = why->error_code, .arg2 = why->check };

	if (why->vector != VECTOR_PF || !may_appear(why))
		return false;
	return ask(&request) == ANSWER_DONE && request.result == FAULT_AGAIN;
}

/* The program may close what it does not know: then the supervisor watches, and gives us another descriptor. */
void watch_mapping(uint64_t start, uint64_t length)
{
	struct uffdio_register mapping = {
		.range = { .start = start, .len = length },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	request_t request = { .op = ASK_WATCH, .key = target_state.key, .arg0 = start, .arg1 = length };

	const long fd = target_state.watch & ~WATCH_LEAVE;

	if (!fd || sys_call4(__NR_ioctl, fd, (long)UFFDIO_REGISTER, (long)&mapping, 0))
		ask_blocked(&request);
}

/* The supervisor says so before the first does, and waits until no slot is locked (engine.py, pages_leave). */
bool pages_leave(void)
{
	return __atomic_load_n(&target_state.watch, __ATOMIC_ACQUIRE) & WATCH_LEAVE;
}
