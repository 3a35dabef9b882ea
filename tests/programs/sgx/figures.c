/* SPDX-License-Identifier: Apache-2.0 */
/* Does what it is told, a word on each line of standard input, says "ok", and waits: tests/supervisor/test_stat.py looks. */
#include "sgx.h"

static struct enclave e;
static volatile int go, inside;
static uint64_t count;

static void *spin(void *data)
{
	(void)data;
	CLEAN(&e, 1, OP_SPIN, &go, &inside, &count);
	return NULL;
}

/* A child whose enclave grows until it is killed, somewhere in the middle. */
static void kill_one_that_grows(useconds_t after)
{
	uint64_t refused = 1;
	pid_t child = (pid_t)WORKS(fork());

	if (child) {
		usleep(after);
		WORKS(kill(child, SIGKILL));
		CHECK(waitpid(child, NULL, 0), child);
		return;
	}
	e = loaded();
	CHECK(map_at(&e, AT_HOLES, 2000 * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	CLEAN(&e, 0, OP_GROW, in(&e, AT_HOLES), 2000, &refused);
	for (;;)
		pause();
}

static void serve(void)
{
	char word[16];
	uint64_t number, refused = 1, sum;
	pthread_t thread;
	int status;
	pid_t child;

	while (scanf("%15s %lu", word, &number) == 2) {
		if (!strcmp(word, "load")) {
			e = loaded();
		} else if (!strcmp(word, "debug")) {
			e = built(ATTRIBUTE_DEBUG);
		} else if (!strcmp(word, "call")) {
			while (number--)
				CLEAN(&e, 0, OP_ADD, 1, 2, &sum);
		} else if (!strcmp(word, "exceptions")) {
			while (number--) {
				EXCEPTION(&e, 0, OP_UD2, 0, 0, 0, 6, 0, 0);
				CLEAN(&e, 0, OP_FRAME_ADD, FRAME_RIP, 2, 0);
				RESUMES(&e, 0);
			}
		} else if (!strcmp(word, "grow")) {
			CHECK(map_at(&e, AT_HOLES, number * PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
			CLEAN(&e, 0, OP_GROW, in(&e, AT_HOLES), number, &refused);
			CHECK(refused, 0);
		} else if (!strcmp(word, "kill")) {
			while (number--)
				kill_one_that_grows((useconds_t)(1000 + 997 * number));
		} else if (!strcmp(word, "enter")) {
			CHECK(pthread_create(&thread, NULL, spin, NULL), 0);
			wait_for(&inside);
		} else if (!strcmp(word, "leave")) {
			go = 1;
			CHECK(pthread_join(thread, NULL), 0);
		} else if (!strcmp(word, "fork")) {
			child = (pid_t)WORKS(fork());
			if (child) {
				CHECK(waitpid(child, &status, 0), child);
				CHECK(status, 0);
			}
		}
		printf("ok\n");
		fflush(stdout);
	}
}

int main(void)
{
	serve();
	return 0;
}
