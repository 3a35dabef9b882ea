/* A program's own handler for the signals of exceptions: it remembers what the kernel told it, and returns. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

struct caught {
	uint64_t count, signo, code, address;
	uint64_t gregs[23];
	uint64_t fp[512 / 8];
	uint64_t mask;
};

struct caught caught;
/* Where it was each time. */
#define RIPS 4096
uint64_t caught_rips[RIPS];
/* Where to go on instead of RIP; 0: where it stopped. */
uint64_t caught_skip_to;
static struct sigaction before[65];

static void handler(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	caught_rips[caught.count % RIPS] = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	caught.count++;
	caught.signo = signo == info->si_signo ? (uint64_t)signo : 0;
	caught.code = (uint64_t)(int64_t)info->si_code;
	caught.address = (uint64_t)info->si_addr;
	memcpy(caught.gregs, uc->uc_mcontext.gregs, sizeof(caught.gregs));
	memcpy(caught.fp, uc->uc_mcontext.fpregs, sizeof(caught.fp));
	memcpy(&caught.mask, &uc->uc_sigmask, sizeof(caught.mask));
	if (caught_skip_to)
		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)caught_skip_to;
}

int catch_signal(int signo)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	return sigaction(signo, &action, &before[signo]);
}

int release_signal(int signo)
{
	return sigaction(signo, &before[signo], 0);
}
