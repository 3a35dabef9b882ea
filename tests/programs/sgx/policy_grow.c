/* SPDX-License-Identifier: Apache-2.0 */
/* A14, A16: code that appears after INIT, by EACCEPTCOPY or as a TCS with an entry of one's own; a heap may grow. */
#include "policy.h"

int main(int argc, char **argv)
{
	struct sgx_enclave_modify_types told;
	struct enclave e;

	(void)argc;
	begin(argv);
	e = loose();
	map_all(&e);
	WORKS(map(&e, AT_HOLES, 4 * PAGE, RW));
	CHECK(ACCEPT(&e, 0, AT_HOLES, SECINFO_RW | SECINFO_PENDING), 0);
	poke(&e, AT_HOLES, 5);
	/* The page's own permissions are the enclave's to give; mappings are not. */
	CHECK(leaf_of(&e, 1, EACCEPTCOPY, AT_HOLES + PAGE, SECINFO_REG | SECINFO_R | SECINFO_X, in(&e, 0)), 0);
	REFUSED(protect(&e, AT_HOLES + PAGE, PAGE, RX));
	/* A page that was measured, made a TCS. */
	REFUSED(sgx_modify(&e, AT_DATA + PAGE, PAGE, SECINFO_TCS, &told));
	return success();
}
