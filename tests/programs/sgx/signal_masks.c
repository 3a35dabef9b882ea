/* SPDX-License-Identifier: Apache-2.0 */
/* sigprocmask, sigpending, sigsuspend, sigwait and the like. Compared: alone, and in a program that uses an enclave. */
#include "sgx.h"
#include <poll.h>
#include <sys/signalfd.h>

static volatile int handled;

static void count(int number)
{
	handled += number;
}

static void show(void)
{
	sigset_t now, waiting;

	WORKS(sigprocmask(SIG_BLOCK, NULL, &now));
	WORKS(sigpending(&waiting));
	printf("blocked");
	for (int n = 1; n < 65; n++)
		if (sigismember(&now, n) == 1)
			printf(" %d", n);
	printf(", pending");
	for (int n = 1; n < 65; n++)
		if (sigismember(&waiting, n) == 1)
			printf(" %d", n);
	printf(", handled %d\n", handled);
}

int main(int argc, char **argv)
{
	static const int numbers[] = { SIGUSR1, SIGUSR2, SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGALRM };
	struct timespec now = { 0, 0 };
	struct enclave e;
	sigset_t all, none, one;
	siginfo_t info;
	int fd;

	(void)argv;
	sigfillset(&all);
	sigemptyset(&none);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		signal(numbers[i], count);
	if (argc < 2)
		e = loaded();
	show();
	WORKS(sigprocmask(SIG_SETMASK, &all, NULL));
	show();
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		WORKS(raise(numbers[i]));
		show();
		if (argc < 2)
			CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	}
	sigemptyset(&one);
	sigaddset(&one, SIGUSR1);
	printf("%d\n", sigwaitinfo(&one, &info));
	SAY(sigtimedwait(&one, &info, &now));
	sigemptyset(&one);
	sigaddset(&one, SIGUSR2);
	fd = signalfd(-1, &one, 0);
	struct signalfd_siginfo from;

	printf("%zd", read(fd, &from, sizeof(from)));
	printf(" %d\n", from.ssi_signo);
	show();
	sigfillset(&one);
	sigdelset(&one, SIGSEGV);
	SAY(sigsuspend(&one));
	show();
	sigdelset(&one, SIGTRAP);
	SAY(ppoll(NULL, 0, NULL, &one));
	show();
	sigdelset(&one, SIGBUS);
	SAY(pselect(0, NULL, NULL, NULL, NULL, &one));
	show();
	WORKS(sigprocmask(SIG_UNBLOCK, &all, NULL));
	show();
	WORKS(raise(SIGSEGV));
	show();
	SAY(syscall(SYS_rt_sigprocmask, 99, &all, NULL, 8));
	SAY(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, 4));
	SAY(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 8, NULL, 8));
	SAY(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, 8, 8));
	show();
	if (argc < 2)
		CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	return success();
}
