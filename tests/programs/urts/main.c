// SPDX-License-Identifier: Apache-2.0
/*
 * The application: threads that call an enclave very often, with exceptions, ocalls, signals, forks and threads that
 * end in between, and a profiling timer. What the enclave has counted must be what was asked of it.
 *
 *	urts ENCLAVE [--vdso] [--onstack] [--opt-in] [--calls N] [--rounds N] [--seed N] [--interval MICROSECONDS]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "urts.h"

#define STACK_BYTES (256ul << 10)
#define DEEPEST 3 /* calls in ocalls in calls */
#define IN_CHILD 3 /* calls */
#define SITES 512

#define VECTOR_DE 0
#define VECTOR_BP 3
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_XM 19
#define ANY -1

struct worker {
	struct bound bound; /* first: runtime.c has a pointer to it */
	pthread_t thread;
	pid_t tid;
	uint64_t random, whim; /* what is asked; what is done meanwhile */
	uint64_t count[COUNTERS]; /* as the enclave should have it */
	uint64_t calls; /* to do */
	uint64_t op; /* asked at the moment */
	int depth;
	bool plain; /* ocalls do nothing else */
	uint8_t *stack;
};

static struct runtime_choice choice;
static struct enclave enclave;
static bool opted_in;
static uint64_t interval = 1000; /* microseconds, of the timers */
static struct worker workers[THREADS];
static pthread_barrier_t together;
static uint8_t *sites; /* see make_sites */
static void *beyond_end; /* a mapping behind the end of its file */
static struct {
	uint64_t ticks, at_aep, deepest, probes, wakes, own_signals;
	uint64_t nested, forks, helpers, host_faults, jumps, masks, sleeps, files, mappings;
} stats;

static __thread sigjmp_buf *jump_out;
static __thread uint64_t own_ticks;

#define bump(what) __atomic_add_fetch(&(what), 1, __ATOMIC_RELAXED)

/* ---- what the enclave should say of its exceptions ------------------------------------------------------------- */

/* How each exception must be told. */
static const struct {
	int signo, code;
	uint64_t vector, error_code, may_differ;
} told[OPS] = {
	[OP_DIVIDE] = { SIGFPE, FPE_INTDIV, VECTOR_DE, 0, 0 },
	[OP_ILLEGAL] = { SIGILL, ILL_ILLOPN, VECTOR_UD, 0, 0 },
	[OP_PROTECTION] = { SIGSEGV, SI_KERNEL, VECTOR_GP, 0, 0 },
	[OP_UNMAPPED] = { SIGSEGV, SEGV_MAPERR, VECTOR_PF, 4, 0 },
	[OP_NO_ACCESS] = { SIGSEGV, SEGV_ACCERR, VECTOR_PF, 4, 0 },
	[OP_ABSENT] = { SIGSEGV, SEGV_ACCERR, VECTOR_PF, 0x8005, 0 },
	[OP_CONSTANT] = { SIGSEGV, SEGV_ACCERR, VECTOR_PF, 6, 1 },
	[OP_FETCH] = { SIGSEGV, SEGV_ACCERR, VECTOR_PF, 0x14, 1 },
	[OP_BREAK] = { SIGILL, ILL_ILLOPN, VECTOR_UD, 0, 0 },
	[OP_FLOAT] = { SIGFPE, ANY, VECTOR_XM, 0, 0 },
	[OP_DEEP] = { SIGILL, ILL_ILLOPN, VECTOR_UD, 0, 0 },
};

static uint64_t fault_address(uint64_t op, bool by_signal)
{
	switch (op) {
	case OP_UNMAPPED:
		return enclave.base + enclave.data + PAGE;
	case OP_NO_ACCESS:
		return enclave.base + enclave.closed;
	case OP_ABSENT:
		return enclave.base + enclave.constant + PAGE;
	case OP_CONSTANT:
		return enclave.base + enclave.constant;
	case OP_FETCH:
		return enclave.base + enclave.data;
	case OP_PROTECTION:
	case OP_BREAK:
		return 0;
	default:
		return by_signal ? runtime_aep() : 0;
	}
}

static void check_exception(struct bound *self, const struct exception *exception)
{
	const uint64_t op = ((struct worker *)self)->op;
	const bool trap = op == OP_BREAK && opted_in;
	const uint64_t vector = trap ? VECTOR_BP : told[op].vector;
	const int signo = trap ? SIGTRAP : told[op].signo, code = trap ? SI_KERNEL : told[op].code;
	const uint64_t address = op == OP_BREAK && exception->signo && !trap ? runtime_aep() :
									       fault_address(op, exception->signo);

	if (choice.vdso && !trap) {
		if (exception->signo)
			fail("operation %lu: signal %d in spite of the vDSO", op, exception->signo);
	} else if (exception->signo != signo || (code != ANY && exception->code != code)) {
		fail("operation %lu: signal %d with code %d, not %d with %d", op, exception->signo, exception->code,
		     signo, code);
	}
	if (exception->vector != vector || ((exception->error_code ^ told[op].error_code) & ~told[op].may_differ))
		fail("operation %lu: vector %lu with code %#lx, not %lu with %#lx", op, exception->vector,
		     exception->error_code, vector, told[op].error_code);
	if (exception->address != address)
		fail("operation %lu: address %#lx, not %#lx", op, exception->address, address);
}

/* ---- the application's own handlers --------------------------------------------------------------------------- */

static bool inside_enclave(uint64_t address)
{
	return address - enclave.base < enclave.size;
}

/* Faults of the host's own; installed before the runtime has a handler. */
static void on_host_fault(int signo, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	if (info->si_signo != signo || inside_enclave((uint64_t)regs[REG_RIP]) ||
	    (sites && (uint64_t)regs[REG_RIP] - (uint64_t)sites < SITES * PAGE))
		fail("signal %d at %#llx", signo, regs[REG_RIP]);
	bump(stats.host_faults);
	if (jump_out)
		siglongjmp(*jump_out, 1);
	regs[REG_RIP] = (greg_t)host_fault_end;
}

static void on_host_trap(int signo)
{
	(void)signo;
	bump(stats.host_faults);
	if (jump_out)
		siglongjmp(*jump_out, 1);
}

static void probe(void)
{
	struct bound *self = runtime_bound();
	uint64_t cssa, seen;

	if (!self)
		return;
	cssa = runtime_probe(self);
	bump(((struct worker *)self)->count[COUNTER_PROBES]);
	bump(stats.probes);
	seen = __atomic_load_n(&stats.deepest, __ATOMIC_RELAXED);
	if (cssa > seen)
		__atomic_store_n(&stats.deepest, cssa, __ATOMIC_RELAXED);
}

/* SIGPROF, and SIGUSR2, which threads send each other: at any instruction. */
static void on_tick(int signo, siginfo_t *info, void *context)
{
	const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	const int error = errno;
	uint64_t ticks;

	if (info->si_signo != signo)
		fail("signal %d is told as %d", signo, info->si_signo);
	if (inside_enclave((uint64_t)regs[REG_RIP]) || inside_enclave((uint64_t)regs[REG_RSP]))
		fail("signal %d inside the enclave: RIP %#llx, RSP %#llx", signo, regs[REG_RIP], regs[REG_RSP]);
	if (runtime_at_aep(regs))
		bump(stats.at_aep);
	ticks = signo == SIGPROF ? bump(stats.ticks) : bump(stats.wakes);
	own_ticks++;
	if (ticks % 4 == 0)
		probe();
	errno = error;
}

static uint64_t one_call(struct worker *w, bool dry);

/* SIGUSR1, which a thread sends itself in an ocall: a call from there. */
static void on_own_signal(int signo)
{
	struct worker *w = (struct worker *)runtime_bound();
	const bool plain = w->plain;

	(void)signo;
	bump(stats.own_signals);
	w->plain = true;
	one_call(w, false);
	w->plain = plain;
}

static void take_signal(int signo, void (*handler)(int, siginfo_t *, void *), void (*simple)(int), int flags)
{
	struct sigaction action = { .sa_flags = flags | (choice.onstack ? SA_ONSTACK : 0) };

	sigemptyset(&action.sa_mask);
	if (handler)
		action.sa_sigaction = handler;
	else
		action.sa_handler = simple;
	if (sigaction(signo, &action, NULL))
		fail("sigaction: %m");
}

/* ---- what happens meanwhile ----------------------------------------------------------------------------------- */

static void host_fault(uint64_t which)
{
	static void (*const faults[])(void) = { host_divide, host_illegal, host_read, host_protection, host_break };
	sigjmp_buf out;

	if (which & 8) {
		if (!sigsetjmp(out, 1)) {
			jump_out = &out;
			if (which % 6 == 5)
				host_bus(beyond_end);
			else
				faults[which % 6]();
			fail("no fault");
		}
		jump_out = NULL;
		bump(stats.jumps);
		return;
	}
	if (which % 6 == 5)
		host_bus(beyond_end);
	else
		faults[which % 6]();
}

static void with_all_blocked(struct worker *w)
{
	sigset_t all, old, now;
	uint64_t ticks;

	sigfillset(&all);
	if (pthread_sigmask(SIG_BLOCK, &all, &old))
		fail("pthread_sigmask");
	ticks = own_ticks;
	w->op = OP_SPIN;
	for (int i = 0; i < 20; i++) {
		struct call call = { .op = OP_SPIN, .a = next(&w->random), .b = next(&w->random) };

		if (runtime_call(&w->bound, COMMAND_CALL, &call))
			fail("the enclave cannot be entered");
		if (call.result != expected(w->count, call.op, call.a, call.b))
			fail("a spin came out as %#lx", call.result);
	}
	if (own_ticks != ticks)
		fail("a blocked signal came");
	if (pthread_sigmask(SIG_SETMASK, &old, &now))
		fail("pthread_sigmask");
	if (!sigismember(&now, SIGPROF) || !sigismember(&now, SIGSEGV) || !sigismember(&now, SIGUSR1) ||
	    sigismember(&old, SIGSEGV) || sigismember(&now, SIGKILL))
		fail("the mask is not what was set");
	bump(stats.masks);
}

static void look_at_signals(const struct worker *w)
{
	struct sigaction action;
	stack_t stack;

	if (sigaltstack(NULL, &stack))
		fail("sigaltstack: %m");
	if (choice.onstack ? stack.ss_sp != w->stack || stack.ss_size != STACK_BYTES || stack.ss_flags :
			     stack.ss_flags != SS_DISABLE)
		fail("the alternate stack is %p, %#zx, %d", stack.ss_sp, stack.ss_size, stack.ss_flags);
	if (sigaction(SIGSEGV, NULL, &action))
		fail("sigaction: %m");
	if (action.sa_sigaction != (runtime_handler(SIGSEGV) ? runtime_handler(SIGSEGV) : on_host_fault))
		fail("another handler of SIGSEGV");
	if (sigaction(SIGPROF, NULL, &action))
		fail("sigaction: %m");
	if (action.sa_sigaction != on_tick)
		fail("another handler of SIGPROF");
}

static void use_files(uint64_t which)
{
	int fd;

	if (which & 1 && access("/dev/sgx_enclave", R_OK))
		fail("/dev/sgx_enclave: %m");
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0 || write(fd, "x", 1) != 1)
		fail("/dev/null: %m");
	close(fd);
	bump(stats.files);
}

/* Not of one page: that would fall into the hole that OP_UNMAPPED is about. */
static void use_memory(uint64_t which)
{
	uint8_t *at = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap: %m");
	at[PAGE] = 1;
	if (which & 1 && mprotect((void *)(enclave.base + enclave.data), PAGE, PROT_READ | PROT_WRITE))
		fail("mprotect: %m");
	munmap(at, 3 * PAGE);
	bump(stats.mappings);
}

static void sleep_a_little(uint64_t which)
{
	const struct timespec moment = { .tv_nsec = 30000 };
	sigset_t none;

	sigemptyset(&none);
	if (which & 1)
		nanosleep(&moment, NULL);
	else if (which & 2)
		ppoll(NULL, 0, &moment, &none);
	else
		pselect(0, NULL, NULL, NULL, &moment, &none);
	bump(stats.sleeps);
}

/* A child makes the next calls, through the TCS of the thread that waits for it. */
static void in_child(struct worker *w)
{
	pid_t pid;
	int status;

	w->plain = true;
	runtime_bind(NULL); /* no probes now: the child is in there */
	pid = fork();
	if (pid < 0)
		fail("fork: %m");
	if (!pid) {
		runtime_bind(&w->bound);
		for (int i = 0; i < IN_CHILD; i++)
			one_call(w, false);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("waitpid: %m");
	if (status)
		fail("a child ended with %#x", status);
	for (int i = 0; i < IN_CHILD; i++)
		one_call(w, true);
	runtime_bind(&w->bound);
	w->plain = false;
	bump(stats.forks);
}

static void use_stack(uint8_t *stack)
{
	const stack_t mine = { .ss_sp = stack, .ss_size = STACK_BYTES };

	if (choice.onstack && sigaltstack(&mine, NULL))
		fail("sigaltstack: %m");
}

static void *help(void *argument)
{
	struct worker *w = argument;
	uint8_t *stack = choice.onstack ? malloc(STACK_BYTES) : NULL;

	use_stack(stack);
	runtime_bind(&w->bound);
	for (int i = 0; i < IN_CHILD; i++)
		one_call(w, false);
	runtime_bind(NULL);
	if (choice.onstack && sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL))
		fail("sigaltstack: %m");
	free(stack);
	return NULL;
}

/* The same by a thread that ends then. */
static void in_thread(struct worker *w)
{
	pthread_t helper;

	w->plain = true;
	runtime_bind(NULL);
	if (pthread_create(&helper, NULL, help, w))
		fail("pthread_create");
	pthread_join(helper, NULL);
	runtime_bind(&w->bound);
	w->plain = false;
	bump(stats.helpers);
}

static void wake_another(const struct worker *w, uint64_t which)
{
	const struct worker *other = &workers[which % THREADS];

	if (other != w && syscall(SYS_tgkill, getpid(), other->tid, SIGUSR2))
		fail("tgkill: %m");
}

static void do_something(struct worker *w)
{
	const uint64_t op = w->op, whim = next(&w->whim), which = next(&w->whim);

	w->depth++;
	switch (whim % 1024) {
	case 0 ... 299:
		for (uint64_t i = 0; i <= which % 2; i++)
			one_call(w, false);
		bump(stats.nested);
		break;
	case 300 ... 319:
		host_fault(which);
		break;
	case 320 ... 339:
		look_at_signals(w);
		break;
	case 340 ... 359:
		use_files(which);
		break;
	case 360 ... 379:
		use_memory(which);
		break;
	case 380 ... 399:
		sleep_a_little(which);
		break;
	case 400 ... 419:
		with_all_blocked(w);
		break;
	case 420 ... 439:
		pthread_kill(pthread_self(), SIGUSR1);
		break;
	case 440 ... 479:
		wake_another(w, which);
		break;
	case 480 ... 482:
		in_thread(w);
		break;
	case 483:
		in_child(w);
		break;
	default:
		break;
	}
	w->depth--;
	w->op = op;
}

static uint64_t serve_ocall(struct bound *self, uint64_t function, uint64_t argument)
{
	struct worker *w = (struct worker *)self;

	if (function != OCALL_MIX)
		fail("ocall %lu", function);
	if (!w->plain && w->depth < DEEPEST)
		do_something(w);
	return mixed(argument);
}

/* ---- calls ---------------------------------------------------------------------------------------------------- */

static uint64_t chosen(uint64_t by)
{
	by %= 1024;
	if (by < 700)
		return OP_ADD;
	if (by < 820)
		return OP_SPIN;
	if (by < 930)
		return OP_OCALL;
	return OP_DIVIDE + by % (OPS - OP_DIVIDE);
}

/* "dry": somebody else makes it. */
static uint64_t one_call(struct worker *w, bool dry)
{
	struct call call = { .op = chosen(next(&w->random)) };
	uint64_t result;

	call.a = next(&w->random);
	call.b = next(&w->random);
	w->op = call.op;
	if (!dry && runtime_call(&w->bound, COMMAND_CALL, &call))
		fail("the enclave cannot be entered");
	result = expected(w->count, call.op, call.a, call.b);
	if (!dry && call.result != result)
		fail("operation %lu of %#lx and %#lx: %#lx, not %#lx", call.op, call.a, call.b, call.result, result);
	return result;
}

/* ITIMER_PROF is as coarse as the kernel's own tick; these are not. */
static timer_t tick_thread(pid_t tid)
{
	const struct timespec each = { .tv_nsec = (long)interval * 1000 };
	const struct itimerspec times = { .it_interval = each, .it_value = each };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF };
	timer_t timer;

	event._sigev_un._tid = tid;
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &times, NULL))
		fail("timer: %m");
	return timer;
}

static void *work(void *argument)
{
	struct worker *w = argument;
	timer_t timer;

	w->tid = (pid_t)syscall(SYS_gettid);
	timer = tick_thread(w->tid);
	use_stack(w->stack);
	pthread_barrier_wait(&together);
	runtime_bind(&w->bound);
	for (uint64_t i = 0; i < w->calls; i++)
		one_call(w, false);
	runtime_bind(NULL);
	pthread_barrier_wait(&together); /* others may still send signals here */
	timer_delete(timer);
	return NULL;
}

/* ---- an ENCLU that all threads use for the first time, and at once -------------------------------------------- */

/* One in each page; some lie across its end. */
static uint8_t *site(int number)
{
	static const uint16_t places[] = { 64, PAGE - 3, PAGE - 2, PAGE - 1 };

	return sites + (uint64_t)number * PAGE + places[number % 4];
}

/* ENCLU; then an indirect jump to enclu_left. */
static void make_sites(void)
{
	const uint64_t back = (uint64_t)enclu_left;

	sites = mmap(NULL, (SITES + 1) * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sites == MAP_FAILED)
		fail("mmap: %m");
	for (int i = 0; i < SITES; i++) {
		static const uint8_t code[] = { 0x0f, 0x01, 0xd7, 0xff, 0x25, 0, 0, 0, 0 };

		memcpy(site(i), code, sizeof(code));
		memcpy(site(i) + sizeof(code), &back, sizeof(back));
	}
}

static void *use_sites(void *argument)
{
	struct worker *w = argument;
	struct left left;

	for (int i = 0; i < 2 * SITES; i++) {
		if (i < SITES)
			pthread_barrier_wait(&together);
		if (enter_by_enclu(w->bound.tcs, COMMAND_PROBE, 0, &left, site(i % SITES)) ||
		    left.rdi != LEFT_DONE || left.rsi)
			fail("site %d: %#lx, %#lx", i, left.rdi, left.rsi);
		w->count[COUNTER_PROBES]++;
	}
	return NULL;
}

static void check_sites(void)
{
	make_sites();
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&workers[i].thread, NULL, use_sites, &workers[i]))
			fail("pthread_create");
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

static bool counts_are_right(struct worker *w)
{
	static const char *const names[] = { "checksum", "calls",	 "exceptions", "returns from ocalls",
					     "second handlers", "probes" };
	uint64_t count[COUNTERS];
	bool good = true;

	runtime_bind(&w->bound);
	if (runtime_call(&w->bound, COMMAND_READ, count))
		fail("the enclave cannot be entered");
	runtime_bind(NULL);
	for (int i = 0; i < COUNTERS; i++) {
		if (count[i] == w->count[i])
			continue;
		if (i < COUNTER_OPS)
			printf("TCS %#lx: %s: %#lx, not %#lx\n", w->bound.tcs, names[i], count[i], w->count[i]);
		else
			printf("TCS %#lx: operation %d: %lu, not %lu\n", w->bound.tcs, i - COUNTER_OPS, count[i],
			       w->count[i]);
		good = false;
	}
	return good;
}

/* An exception that nobody handles ends the process. */
static void check_default_action(struct worker *w)
{
	struct call call = { .op = OP_ILLEGAL };
	int status;
	pid_t pid = fork();

	if (pid < 0)
		fail("fork: %m");
	if (!pid) {
		signal(SIGILL, SIG_DFL);
		runtime_bind(&w->bound);
		if (choice.vdso)
			host_illegal();
		else
			runtime_call(&w->bound, COMMAND_CALL, &call);
		_exit(1);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGILL)
		fail("a child that must die of SIGILL ended with %#x", status);
}

static void make_beyond_end(void)
{
	int fd = memfd_create("empty", MFD_CLOEXEC);

	beyond_end = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || beyond_end == MAP_FAILED)
		fail("memfd: %m");
	close(fd);
}

static void one_round(uint64_t number)
{
	for (int i = 0; i < THREADS; i++) {
		/* Another thread for each TCS in each round. */
		struct worker *w = &workers[i];

		if (pthread_create(&w->thread, NULL, work, w))
			fail("pthread_create, round %lu", number);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
}

static void tick_process(uint64_t microseconds)
{
	const struct timeval interval = { .tv_usec = (suseconds_t)microseconds };
	const struct itimerval timer = { .it_interval = interval, .it_value = interval };

	if (setitimer(ITIMER_PROF, &timer, NULL))
		fail("setitimer: %m");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "vdso", no_argument, NULL, 'v' },	     { "onstack", no_argument, NULL, 's' },
		{ "opt-in", no_argument, NULL, 'd' },	     { "calls", required_argument, NULL, 'c' },
		{ "rounds", required_argument, NULL, 'r' },  { "seed", required_argument, NULL, 'e' },
		{ "interval", required_argument, NULL, 'i' }, { NULL, 0, NULL, 0 },
	};
	uint64_t calls = 10000, rounds = 4, seed = 1;
	bool good = true;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'v':
			choice.vdso = true;
			break;
		case 's':
			choice.onstack = true;
			break;
		case 'd':
			opted_in = true;
			break;
		case 'c':
			calls = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			rounds = strtoul(optarg, NULL, 0);
			break;
		case 'e':
			seed = strtoul(optarg, NULL, 0);
			break;
		case 'i':
			interval = strtoul(optarg, NULL, 0);
			break;
		default:
			return 2;
		}
	}
	if (optind + 1 != argc)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	take_signal(SIGSEGV, on_host_fault, NULL, SA_SIGINFO);
	take_signal(SIGILL, on_host_fault, NULL, SA_SIGINFO);
	take_signal(SIGFPE, on_host_fault, NULL, SA_SIGINFO);
	take_signal(SIGBUS, on_host_fault, NULL, SA_SIGINFO);
	take_signal(SIGTRAP, NULL, on_host_trap, 0);
	enclave_load(&enclave, argv[optind]);
	if (opted_in && !enclave_opt_in(&enclave)) {
		printf("NO-OPT-IN\n");
		return 3;
	}
	runtime_start(&choice);
	take_signal(SIGPROF, on_tick, NULL, SA_SIGINFO | SA_RESTART);
	take_signal(SIGUSR2, on_tick, NULL, SA_SIGINFO | SA_RESTART);
	take_signal(SIGUSR1, NULL, on_own_signal, SA_RESTART);
	make_beyond_end();
	pthread_barrier_init(&together, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		workers[i] = (struct worker){
			.bound = { enclave.tcs[i], serve_ocall, check_exception },
			.random = seed << 32 | (uint64_t)i << 8,
			.whim = ~(seed << 32 | (uint64_t)i << 8),
			.calls = calls / rounds / THREADS,
			.stack = malloc(STACK_BYTES),
		};
	if (!choice.vdso)
		check_sites();
	tick_process(interval);
	for (uint64_t i = 0; i < rounds; i++)
		one_round(i);
	tick_process(0);
	use_stack(workers[0].stack);
	for (int i = 0; i < THREADS; i++)
		good = counts_are_right(&workers[i]) && good;
	check_default_action(&workers[0]);
	printf("calls %lu; in ocalls %lu; forks %lu; threads %lu; host faults %lu, left by a jump %lu\n",
	       workers[0].count[COUNTER_CALLS] + workers[1].count[COUNTER_CALLS] + workers[2].count[COUNTER_CALLS] +
		       workers[3].count[COUNTER_CALLS],
	       stats.nested, stats.forks, stats.helpers, stats.host_faults, stats.jumps);
	printf("ticks %lu, signals of threads %lu, at the AEP %lu, probes %lu, deepest CSSA %lu\n", stats.ticks,
	       stats.wakes, stats.at_aep, stats.probes, stats.deepest);
	printf("own signals %lu, masks %lu, sleeps %lu, files %lu, mappings %lu\n", stats.own_signals, stats.masks,
	       stats.sleeps, stats.files, stats.mappings);
	enclave_unload(&enclave);
	runtime_bind(&workers[0].bound);
	if (!runtime_call(&workers[0].bound, COMMAND_CALL, &(struct call){ .op = OP_ADD }))
		fail("an enclave that is gone was entered");
	printf("%s\n", good ? "EXIT-SUCCESS" : "EXIT-FAILURE");
	return !good;
}
