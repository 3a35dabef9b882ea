/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An enclave of an approved file that has grown, and, with the word "code", has made code of a page that it filled; then it
 * waits to be looked at until its standard input ends: tests/supervisor/test_mappings.py.
 */
#include "policy.h"

#define HEAP 16ul

int main(int argc, char **argv)
{
	struct enclave e;
	uint64_t i;

	(void)argc;
	e = loose();
	map_all(&e);
	use(&e);
	WORKS(map(&e, AT_HOLES, HEAP * PAGE, RW));
	for (i = 0; i < HEAP; i++)
		if (!has(argv, "code") || i != 1)
			CHECK(ACCEPT(&e, 0, AT_HOLES + i * PAGE, SECINFO_RW | SECINFO_PENDING), 0);
	if (has(argv, "code")) {
		CHECK(leaf_of(&e, 1, EACCEPTCOPY, AT_HOLES + PAGE, SECINFO_REG | SECINFO_R | SECINFO_X, in(&e, 0)), 0);
		WORKS(protect(&e, AT_HOLES + PAGE, PAGE, RX));
	}
	printf("ready\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return success();
}
