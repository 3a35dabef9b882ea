/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A30: the policy changes while an enclave is in use: a line on stdout when it is, and the program goes on when there is a
 * line on stdin. By then the right to map it executable is gone, or would be.
 */
#include "policy.h"

static void wait_for_line(const char *say)
{
	char line[80];

	puts(say);
	fflush(stdout);
	CHECK(fgets(line, sizeof(line), stdin) != NULL, 1);
}

static struct enclave e;

/* Nothing is to be run in it: an entry's first instruction is not fetched. */
static void without(void *thread)
{
	uint64_t sum = 0;

	EXCEPTION(&e, thread ? 1 : 0, OP_ADD, 40, 2, &sum, 14, 0x15, in(&e, 0));
	CHECK(sum, 0);
}

/* The mapping is there, and it is of no enclave. */
static void orphan(void *unused)
{
	(void)unused;
	peek(&e, AT_DATA);
}

static void looks(void *unused)
{
	(void)unused;
	(void)*(volatile unsigned char *)in(&e, AT_DATA);
}

static volatile uint64_t steps;
static volatile uint32_t enough;

/* It goes on inside until its code cannot be fetched any more. */
static void *inside(void *unused)
{
	CHECK(ENTER(&e, 1, OP_STEP, &enough, &steps, 0), 0);
	CHECK(run.function, policed ? ERESUME : EEXIT);
	if (policed) {
		CHECK(run.exception_vector, 14);
		/* A fetch; whether there was an entry in the page table depends on who looked at the page last. */
		CHECK(run.exception_error_code & ~1, 0x14);
	}
	return unused;
}

int main(int argc, char **argv)
{

	(void)argc;
	begin(argv);
	e = approved();
	WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&e);
	use(&e);
	if (has(argv, "inside")) {
		pthread_t thread;
		uint64_t before;

		CHECK(pthread_create(&thread, NULL, inside, NULL), 0);
		while (!steps)
			milliseconds(1);
		wait_for_line("USED");
		if (!policed) {
			before = steps;
			while (steps == before)
				milliseconds(1);
			enough = 1;
		}
		CHECK(pthread_join(thread, NULL), 0);
		return success();
	}
	wait_for_line("USED");
	if (!policed) {
		use(&e);
		/* And mapped anew. */
		WORKS(protect(&e, 0, PAGE, RX));
		WORKS(map(&e, 0, PAGE, RX));
		use(&e);
		return success();
	}
	/* The next thing is an entry, or a child that does it first. */
	if (has(argv, "fork"))
		CHECK(in_child(without, &e), 0);
	without(NULL);
	if (has(argv, "orphan")) {
		int status = in_child(looks, NULL);

		CHECK(WIFSIGNALED(status) ? WTERMSIG(status) : 0, SIGBUS);
		/* It cannot enter, and says so. */
		CHECK(WEXITSTATUS(in_child(orphan, NULL)), 1);
		return success();
	}
	/* What is mapped otherwise stays; new mappings are refused. */
	FAILS(EACCES, protect(&e, 0, PAGE, RX));
	FAILS(EACCES, map(&e, 0, PAGE, RX));
	WORKS(map(&e, AT_DATA, PAGE, RW));
	return success();
}
