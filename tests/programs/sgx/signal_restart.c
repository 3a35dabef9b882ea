/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that a signal interrupts: EINTR or again, by SA_RESTART. Compared: alone, and with an enclave. */
#include "sgx.h"

static volatile int handled;
static int pipes[2];

static void handler(int number)
{
	(void)number;
	if (++handled % 2 == 0)
		CHECK(write(pipes[1], "x", 1), 1);
}

static void interrupted(int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
	struct itimerval twice = { { 0, 60000 }, { 0, 60000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct timespec rest = { 5, 0 };
	char byte;

	handled = 0;
	WORKS(sigaction(SIGALRM, &action, NULL));
	WORKS(setitimer(ITIMER_REAL, &twice, NULL));
	SAY(read(pipes[0], &byte, 1));
	WORKS(setitimer(ITIMER_REAL, &never, NULL));
	printf("%d\n", handled);
	if (handled == 1)
		handler(0), WORKS(read(pipes[0], &byte, 1));
	twice.it_interval.tv_usec = 0;
	handled = 0;
	WORKS(setitimer(ITIMER_REAL, &twice, NULL));
	SAY(nanosleep(&rest, &rest));
	WORKS(setitimer(ITIMER_REAL, &twice, NULL));
	SAY(pause());
	printf("%d\n", handled);
	WORKS(read(pipes[0], &byte, 1));
}

int main(int argc, char **argv)
{
	struct enclave e;

	(void)argv;
	WORKS(pipe(pipes));
	if (argc < 2) {
		e = loaded();
		CLEAN(&e, 0, OP_NOP, 0, 0, 0);
	}
	interrupted(0);
	interrupted(SA_RESTART);
	return success();
}
