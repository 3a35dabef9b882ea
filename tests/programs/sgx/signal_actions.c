/* SPDX-License-Identifier: Apache-2.0 */
/* sigaction gives back what was set, of every signal. Compared: alone, and in a program that uses an enclave. */
#include "sgx.h"

static void plain(int number)
{
	(void)number;
}

static void full(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info, (void)context;
}

static void show(const char *when)
{
	for (int number = 1; number < 65; number++) {
		struct sigaction action;

		if (sigaction(number, NULL, &action)) {
			printf("%s %d %s\n", when, number, strerror(errno));
			continue;
		}
		printf("%s %d %s %#x", when, number,
		       action.sa_handler == SIG_DFL   ? "default" :
		       action.sa_handler == SIG_IGN   ? "ignored" :
		       action.sa_handler == plain     ? "plain" :
		       action.sa_sigaction == full    ? "full" :
							"?",
		       (unsigned int)action.sa_flags);
		for (int n = 1; n < 65; n++)
			if (sigismember(&action.sa_mask, n) == 1)
				printf(" %d", n);
		putchar('\n');
	}
}

static void set(int number, int flags, int masked)
{
	struct sigaction action = { .sa_sigaction = full, .sa_flags = flags }, before;

	if (!(flags & SA_SIGINFO))
		action.sa_handler = plain;
	for (int n = 1; masked && n < 65; n += masked)
		sigaddset(&action.sa_mask, n);
	if (sigaction(number, &action, &before))
		printf("%d %s\n", number, strerror(errno));
}

int main(int argc, char **argv)
{
	struct enclave e = { -1, 0 };

	(void)argv;
	show("first");
	set(SIGSEGV, SA_SIGINFO | SA_ONSTACK, 3);
	set(SIGUSR1, SA_RESTART, 0);
	set(SIGSYS, SA_SIGINFO | SA_NODEFER, 1);
	show("set");
	if (argc < 2) {
		e = loaded();
		CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	}
	show("entered");
	set(SIGSEGV, 0, 0);
	set(SIGILL, SA_SIGINFO | (int)SA_RESETHAND, 7);
	set(SIGBUS, SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_NOCLDSTOP | SA_NOCLDWAIT | SA_RESTART, 1);
	set(SIGTRAP, SA_RESTART, 5);
	set(SIGFPE, SA_SIGINFO, 0);
	set(SIGSYS, 0, 2);
	set(SIGALRM, SA_SIGINFO | SA_RESTART, 1);
	set(SIGKILL, 0, 0);
	set(SIGSTOP, 0, 0);
	set(64, SA_SIGINFO, 1);
	show("again");
	signal(SIGSEGV, SIG_IGN);
	signal(SIGILL, SIG_DFL);
	signal(SIGALRM, SIG_IGN);
	signal(SIGSYS, SIG_IGN);
	show("undone");
	SAY(syscall(SYS_rt_sigaction, SIGSEGV, NULL, NULL, 7));
	SAY(syscall(SYS_rt_sigaction, SIGSEGV, 8, NULL, 8));
	SAY(syscall(SYS_rt_sigaction, SIGSEGV, NULL, 8, 8));
	SAY(syscall(SYS_rt_sigaction, 65, NULL, NULL, 8));
	SAY(syscall(SYS_rt_sigaction, 0, NULL, NULL, 8));
	if (argc < 2)
		CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	return success();
}
