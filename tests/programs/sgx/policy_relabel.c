/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A13: a program gets another label, which may not execute its enclave: what it has mapped executable is so no more. The
 * test has swsgx take a program's name for its label, since few machines have labels that a program can change.
 */
#include "policy.h"

#include <sys/prctl.h>

int main(int argc, char **argv)
{
	struct enclave e;
	uint64_t sum = 0;

	(void)argc;
	begin(argv);
	WORKS(prctl(PR_SET_NAME, "builder"));
	e = approved();
	WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&e);
	use(&e);
	WORKS(prctl(PR_SET_NAME, "other"));
	/* Its next question; refused or not, what was mapped is judged anew. */
	REFUSED(map(&e, 0, PAGE, RX));
	if (policed) {
		EXCEPTION(&e, 0, OP_ADD, 40, 2, &sum, 14, 0x15, in(&e, 0));
		CHECK(sum, 0);
		WORKS(map(&e, AT_DATA, PAGE, RW));
		/* A label of old does not bring it back by itself. */
		WORKS(prctl(PR_SET_NAME, "builder"));
		WORKS(map(&e, 0, PAGE, RX));
	} else {
		use(&e);
	}
	return success();
}
