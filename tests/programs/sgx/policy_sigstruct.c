/* SPDX-License-Identifier: Apache-2.0 */
/* A18, A19, A28: a SIGSTRUCT out of anonymous memory, and a privately changed one; what is refused can be tried again. */
#include "policy.h"

int main(int argc, char **argv)
{
	struct enclave e;
	unsigned char *copy = anonymous(PAGE), *changed = file_mapped("wrong.sig", RW, MAP_PRIVATE);
	uint64_t sum;

	(void)argc;
	begin(argv);
	e = approved();
	memcpy(copy + 100, enclave_sigstruct, sizeof(enclave_sigstruct));
	if (policed) {
		FAILS(EACCES, sgx_init(e.fd, copy + 100));
		/* It is not one to be entered. */
		map_all(&e);
		CHECK(ENTER(&e, 0, OP_ADD, 1, 2, &sum) == 0 && run.function == EEXIT, 0);
		/* The file of another enclave's, written over with this one's. */
		FAILS(EPERM, sgx_init(e.fd, changed));
		memcpy(changed, enclave_sigstruct, sizeof(enclave_sigstruct));
		FAILS(EACCES, sgx_init(e.fd, changed));
	}
	WORKS(sgx_init(e.fd, policed ? file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE) : copy + 100));
	map_all(&e);
	use(&e);
	return success();
}
