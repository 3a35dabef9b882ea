/* SPDX-License-Identifier: Apache-2.0 */
/* A task that reads imply to execute for (READ_IMPLIES_EXEC) maps no enclave, with no protection. */
#include "sgx.h"
#include <sys/personality.h>

int main(void)
{
	struct enclave e = initialised(0);
	void *at = (void *)in(&e, AT_DATA);

	CHECK(map_at(&e, AT_DATA, PAGE, PROT_READ), at);
	CHECK(personality(READ_IMPLIES_EXEC) & READ_IMPLIES_EXEC, 0);
	FAILS(EACCES, map_at(&e, AT_CONSTANT, PAGE, PROT_READ));
	FAILS(EACCES, map_at(&e, AT_CONSTANT, PAGE, PROT_NONE));
	FAILS(EACCES, mprotect(at, PAGE, PROT_READ | PROT_WRITE));
	FAILS(EACCES, mprotect(at, PAGE, PROT_NONE));
	CHECK(personality(0), READ_IMPLIES_EXEC);
	WORKS(mprotect(at, PAGE, PROT_READ | PROT_WRITE));
	CHECK(map_at(&e, AT_CONSTANT, PAGE, PROT_READ), in(&e, AT_CONSTANT));
	return success();
}
