// SPDX-License-Identifier: Apache-2.0
/*
 * Asking the supervisor: a system call number that no kernel has, which the filter turns into a notification. The
 * request lies in this process's memory; the supervisor reads and writes it there, and may have us make system calls
 * before it answers. Program memory is reached by process_vm_readv, so that a bad pointer is EFAULT and no fault.
 */
#include "supervised.h"

#include "sys.h"

struct io_vector {
	uint64_t base;
	uint64_t length;
};

target_t target_state;

long copy_in(void *to, uint64_t from, uint64_t length)
{
	struct io_vector ours = { (uint64_t)to, length }, theirs = { from, length };
	long copied = sys_call6(__NR_process_vm_readv, sys_getpid(), (long)&ours, 1, (long)&theirs, 1, 0);

	return copied == (long)length ? 0 : ERROR_FAULT;
}

long copy_out(uint64_t to, const void *from, uint64_t length)
{
	struct io_vector ours = { (uint64_t)from, length }, theirs = { to, length };
	long copied = sys_call6(__NR_process_vm_writev, sys_getpid(), (long)&ours, 1, (long)&theirs, 1, 0);

	return copied == (long)length ? 0 : ERROR_FAULT;
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
	case OWN_CALL_FORGET:
		swsgx_forget(call->arg0, call->arg1);
		return 0;
	default:
		return sys_call6((long)call->number, (long)call->arg0, (long)call->arg1, (long)call->arg2,
				 (long)call->arg3, (long)call->arg4, (long)call->arg5);
	}
}

static uint32_t ask_blocked(request_t *request)
{
	const uint32_t op = request->op;

	for (;;) {
		long answer = sys_call4(ASK_NUMBER, (long)request, 0, 0, 0);

		switch (answer) {
		case ANSWER_CALLS:
			for (uint32_t i = 0; i < request->count && i < CALLS_AT_ONCE; i++) {
				struct swsgx_host_call *call = (struct swsgx_host_call *)request->calls + i;

				call->result = (uint64_t)make_call(call);
			}
			request->op = ASK_CONTINUE;
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
		default: /* there is no supervisor any more */
			request->result = (uint64_t)answer;
			return ANSWER_DONE;
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

	if (target_state.explain)
		ask(&request);
}

/*
 * A page of an enclave that the model does not show here: another process may have added it since. True: it is
 * mapped now, the instruction can be tried again.
 */
bool page_appears(const struct refusal *why)
{
	request_t request = { .op = ASK_FAULT, .arg0 = why->address, .arg1 = why->error_code, .arg2 = why->check };

	if (why->vector != VECTOR_PF || (why->check != CHECK_PAGE_ABSENT && why->check != CHECK_PAGE_CEILING))
		return false;
	return ask(&request) == ANSWER_DONE && (long)request.result == 1;
}
