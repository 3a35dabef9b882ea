/* Many calls into an enclave in a row, with every register checked; what Python is too slow for.
 *
 * The enclave is that of tests/make/storm.py: it adds a constant of its own to each register, counts its calls, raises
 * #UD in the middle where R15 is odd, and with CSSA above 0 it steps its interrupted code over that.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "abi.h"
#include "isa.h"

#define INTERRUPTED -4
#define REGISTERS 11

typedef int (*call_function)(struct swsgx_enclave_call *);

struct storm {
	/* given */
	call_function call;
	struct swsgx_enclave_call *first, *nested; /* at CSSA 0, at CSSA 1 */
	uint64_t seed;
	uint64_t faults; /* one call in so many raises #UD; 0: none */
	/* found */
	uint64_t calls, interruptions, repaired, wrong, wrong_register, wrong_value, expected;
	int64_t failed;
};

static const size_t place[REGISTERS] = {
	offsetof(struct swsgx_registers, rdi), offsetof(struct swsgx_registers, rsi),
	offsetof(struct swsgx_registers, rdx), offsetof(struct swsgx_registers, r8),
	offsetof(struct swsgx_registers, r9),  offsetof(struct swsgx_registers, r10),
	offsetof(struct swsgx_registers, r11), offsetof(struct swsgx_registers, r12),
	offsetof(struct swsgx_registers, r13), offsetof(struct swsgx_registers, r14),
	offsetof(struct swsgx_registers, r15),
};

static uint64_t *reg(struct swsgx_enclave_call *call, int number)
{
	return (uint64_t *)((uint8_t *)call->registers + place[number]);
}

static uint64_t mixed(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ul;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul;
	x = (x ^ x >> 27) * 0x94d049bb133111ebul;
	return x ^ x >> 31;
}

/* One leaf, resumed as often as a signal wants the caller. */
static int run(struct storm *storm, struct swsgx_enclave_call *call, uint32_t leaf)
{
	int result;

	call->function = leaf;
	while ((result = storm->call(call)) == INTERRUPTED) {
		storm->interruptions++;
		call->function = ENCLU_ERESUME;
	}
	return result;
}

static int one(struct storm *storm)
{
	struct swsgx_enclave_run *outcome = (struct swsgx_enclave_run *)storm->first->run;
	struct swsgx_enclave_run *repair = (struct swsgx_enclave_run *)storm->nested->run;
	int result = run(storm, storm->first, ENCLU_EENTER);

	while (!result && outcome->function != ENCLU_EEXIT) {
		if (outcome->exception_vector != VECTOR_UD)
			return 0x10000 | outcome->exception_vector;
		storm->repaired++;
		result = run(storm, storm->nested, ENCLU_EENTER);
		if (result || repair->function != ENCLU_EEXIT)
			return 0x20000 | repair->exception_vector;
		result = run(storm, storm->first, ENCLU_ERESUME);
	}
	return result;
}

static void prepare(struct storm *storm)
{
	uint64_t start = storm->seed + storm->calls * REGISTERS;

	for (int number = 0; number < REGISTERS; number++)
		*reg(storm->first, number) = mixed(start + number);
	*reg(storm->first, REGISTERS - 1) &= ~1ul;
	if (storm->faults && storm->calls % storm->faults == 0)
		*reg(storm->first, REGISTERS - 1) |= 1;
}

static void check(struct storm *storm, int result)
{
	uint64_t start = storm->seed + storm->calls * REGISTERS;

	if (result)
		storm->failed = result;
	for (int number = 0; number < REGISTERS; number++) {
		uint64_t found = *reg(storm->first, number), given = mixed(start + number);

		if (number == REGISTERS - 1)
			given = (given & ~1ul) | (storm->faults && storm->calls % storm->faults == 0);
		if (found == given + 0x1111 * (uint64_t)(number + 1))
			continue;
		storm->wrong++;
		storm->wrong_register = (uint64_t)number;
		storm->wrong_value = found;
		storm->expected = given + 0x1111 * (uint64_t)(number + 1);
	}
}

/* So many calls, or until one is wrong; returns how many were right. */
uint64_t storm_calls(struct storm *storm, uint64_t count)
{
	uint64_t done = 0;

	while (done < count && !storm->wrong && !storm->failed) {
		prepare(storm);
		check(storm, one(storm));
		storm->calls++;
		done++;
	}
	return done - (storm->wrong || storm->failed);
}

/* One call between two breakpoints, for a debugger that steps through it. */
void storm_stepped(struct storm *storm)
{
	prepare(storm);
	__asm__ volatile("int3" ::: "memory");
	check(storm, one(storm));
	__asm__ volatile("int3" ::: "memory");
	storm->calls++;
}

/* What the program's own handler finds. */
struct watch {
	volatile struct sgx_tcs *tcs; /* must be free: a thread in a handler is outside */
	uint64_t count, busy, wrong_thread, inside;
	uint64_t code_begin, code_end; /* the enclave: nothing of it may be in the frame */
};

struct watch watch;
static __thread uint64_t thread_word;

static void handler(int signo, siginfo_t *info, void *context)
{
	const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signo;
	(void)info;
	watch.count++;
	watch.busy += watch.tcs && watch.tcs->state != 0;
	watch.wrong_thread += thread_word != 0x5ca1ab1e;
	watch.inside += (uint64_t)regs[REG_RIP] - watch.code_begin < watch.code_end - watch.code_begin;
}

int watch_signal(int signo)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	thread_word = 0x5ca1ab1e;
	return sigaction(signo, &action, 0);
}
