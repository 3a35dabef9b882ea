/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An enclave that is measured, a line on stdout, and when there is one on stdin a second enclave. "refused": by then nothing can
 * be measured, and so what has to be is refused.
 */
#include "policy.h"

#define CODE_FLAGS (SECINFO_REG | SECINFO_R | SECINFO_X)

int main(int argc, char **argv)
{
	unsigned char *code = file_mapped(CODE, PROT_READ, MAP_PRIVATE);
	struct enclave first, second;
	char line[80];

	(void)argc;
	first = approved();
	WORKS(sgx_init(first.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&first);
	/* A page that may become code: it is measured when it does. */
	WORKS(map(&first, AT_HOLES, 2 * PAGE, RW));
	CHECK(leaf_of(&first, 1, EACCEPTCOPY, AT_HOLES, CODE_FLAGS, in(&first, 0)), 0);
	use(&first);
	puts("first");
	fflush(stdout);
	CHECK(fgets(line, sizeof(line), stdin) != NULL, 1);
	if (!has(argv, "refused")) {
		WORKS(protect(&first, AT_HOLES, PAGE, RX));
		second = approved();
		WORKS(sgx_init(second.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
		map_all(&second);
		use(&second);
		return success();
	}
	second = created(0);
	for (int times = 0; times < 2; times++) {
		FAILS(EACCES, sgx_add(second.fd, code, 0, PAGE, CODE_FLAGS));
		FAILS(EACCES, protect(&first, AT_HOLES, PAGE, RX));
		FAILS(EACCES, map(&first, AT_HOLES, PAGE, RX));
	}
	/* Nothing of it is there. What need not be measured is done, and what was measured goes on. */
	WORKS(sgx_add(second.fd, code, PAGE, PAGE, SECINFO_RW));
	FAILS(EPERM, sgx_init(second.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	use(&first);
	return success();
}
