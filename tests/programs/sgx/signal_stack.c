/* SPDX-License-Identifier: Apache-2.0 */
/* sigaltstack gives back what was set. Compared: alone, and in a program that uses an enclave. */
#include "sgx.h"

static char first[65536] __attribute__((aligned(16))), second[65536] __attribute__((aligned(16)));

static void show(const char *when)
{
	stack_t now;

	WORKS(sigaltstack(NULL, &now));
	printf("%s: %s %zu %#x\n", when, now.ss_sp == first ? "first" : now.ss_sp == second ? "second" : "other",
	       now.ss_flags & SS_DISABLE ? 0 : now.ss_size, now.ss_flags);
}

static void handler(int number)
{
	stack_t other = { .ss_sp = second, .ss_size = sizeof(second) };
	char *here = __builtin_frame_address(0);

	(void)number;
	show("inside");
	SAY(sigaltstack(&other, NULL));
	printf("%d\n", here > first && here < first + sizeof(first));
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	stack_t one = { .ss_sp = first, .ss_size = sizeof(first) }, small = { .ss_sp = first, .ss_size = 100 };
	stack_t odd = { .ss_sp = first, .ss_size = sizeof(first), .ss_flags = 99 }, none = { .ss_flags = SS_DISABLE };
	struct enclave e = { -1, 0 };

	(void)argv;
	show("first");
	WORKS(sigaction(SIGUSR1, &action, NULL));
	WORKS(sigaction(SIGSEGV, &action, NULL));
	if (argc < 2) {
		e = loaded();
		CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	}
	show("entered");
	WORKS(sigaltstack(&one, NULL));
	show("set");
	WORKS(raise(SIGUSR1));
	WORKS(raise(SIGSEGV));
	show("behind");
	SAY(sigaltstack(&small, NULL));
	SAY(sigaltstack(&odd, NULL));
	SAY(syscall(SYS_sigaltstack, 8, NULL));
	SAY(syscall(SYS_sigaltstack, NULL, 8));
	show("refused");
	if (argc < 2)
		CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	show("entered again");
	one.ss_sp = second;
	WORKS(sigaltstack(&one, &none));
	printf("%d\n", none.ss_sp == first);
	show("second");
	none.ss_flags = SS_DISABLE;
	WORKS(sigaltstack(&none, NULL));
	show("disabled");
	return success();
}
