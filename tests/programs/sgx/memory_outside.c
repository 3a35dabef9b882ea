/* SPDX-License-Identifier: Apache-2.0 */
/* Outside its range an enclave can be mapped until INIT, with any protection; then no more, not even PROT_NONE. */
#include "sgx.h"

int main(void)
{
	struct enclave e = built(0);
	char *early = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, e.fd, 0);

	CHECK(early != MAP_FAILED, 1);
	CHECK(map_at(&e, -PAGE, 2 * PAGE, PROT_READ), e.base - PAGE);
	CHECK(map_at(&e, ENCLAVE_SIZE, PAGE, PROT_WRITE), in(&e, ENCLAVE_SIZE));
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	FAILS(EACCES, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, e.fd, 0));
	FAILS(EACCES, mmap(NULL, PAGE, PROT_NONE, MAP_SHARED, e.fd, 0));
	FAILS(EACCES, map_at(&e, -PAGE, PAGE, PROT_NONE));
	FAILS(EACCES, map_at(&e, -PAGE, 2 * PAGE, PROT_READ));
	FAILS(EACCES, map_at(&e, ENCLAVE_SIZE, PAGE, PROT_NONE));
	FAILS(EACCES, map_at(&e, ENCLAVE_SIZE - PAGE, 2 * PAGE, PROT_NONE));
	FAILS(EACCES, mprotect(early, PAGE, PROT_READ));
	FAILS(EACCES, mprotect(early, PAGE, PROT_NONE));
	WORKS(munmap(early, PAGE));
	CHECK(map_at(&e, ENCLAVE_SIZE - PAGE, PAGE, PROT_NONE), in(&e, ENCLAVE_SIZE - PAGE));
	CHECK(map_at(&e, 0, ENCLAVE_SIZE, PROT_NONE), e.base);
	return success();
}
