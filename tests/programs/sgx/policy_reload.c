/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A30: the policy changes while an enclave is in use: a line on stdout when it is, and the program goes on when there is a
 * line on stdin. By then the right to map it executable is gone.
 */
#include "policy.h"

static void wait_for_line(const char *say)
{
	char line[80];

	puts(say);
	fflush(stdout);
	CHECK(fgets(line, sizeof(line), stdin) != NULL, 1);
}

int main(int argc, char **argv)
{
	struct enclave e;
	uint64_t sum = 0;

	(void)argc;
	begin(argv);
	e = approved();
	WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&e);
	use(&e);
	wait_for_line("USED");
	if (!policed) {
		use(&e);
		return success();
	}
	/* Nothing is asked in between: the next thing is an entry, whose first instruction is not to be fetched. */
	EXCEPTION(&e, 0, OP_ADD, 40, 2, &sum, 14, 0x15, in(&e, 0));
	CHECK(sum, 0);
	/* What is mapped otherwise stays; new mappings are refused. */
	FAILS(EACCES, protect(&e, 0, PAGE, RX));
	FAILS(EACCES, map(&e, 0, PAGE, RX));
	WORKS(map(&e, AT_DATA, PAGE, RW));
	return success();
}
