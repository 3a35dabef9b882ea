/* SPDX-License-Identifier: Apache-2.0 */
/* A read-only descriptor's mappings cannot become writable, neither by mmap nor by mprotect. */
#include "sgx.h"

int main(void)
{
	struct enclave e = { (int)WORKS(open(SGX_ENCLAVE, O_RDONLY)), reserve(ENCLAVE_SIZE) };
	struct secs secs = a_secs(e.base, ENCLAVE_SIZE);
	void *at = (void *)in(&e, AT_DATA);

	WORKS(sgx_create(e.fd, &secs));
	add_all(e.fd);
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	FAILS(EACCES, map_at(&e, AT_DATA, PAGE, PROT_READ | PROT_WRITE));
	FAILS(EACCES, map_at(&e, AT_DATA, PAGE, PROT_WRITE));
	CHECK(map_at(&e, AT_DATA, PAGE, PROT_READ), at);
	FAILS(EACCES, mprotect(at, PAGE, PROT_READ | PROT_WRITE));
	WORKS(mprotect(at, PAGE, PROT_NONE));
	WORKS(mprotect(at, PAGE, PROT_READ));
	FAILS(EACCES, mprotect(at, PAGE, PROT_READ | PROT_EXEC));
	WORKS(mprotect((void *)CHECK(map_at(&e, 0, PAGE, PROT_READ), e.base), PAGE, PROT_READ | PROT_EXEC));
	return success();
}
