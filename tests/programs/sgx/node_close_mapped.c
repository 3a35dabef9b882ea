/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave that is mapped lives without a descriptor: it is entered, unmapped in part, and protected otherwise. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	uint64_t sum = 0;

	poke(&e, AT_DATA, 1234);
	WORKS(close(e.fd));
	CLEAN(&e, 0, OP_ADD, 20, 22, &sum);
	CHECK(sum, 42);
	CHECK(peek(&e, AT_DATA), 1234);
	FAILS(EBADF, mmap((void *)in(&e, AT_DATA), PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, e.fd, 0));
	CHECK(peek(&e, AT_DATA), 1234);
	WORKS(mprotect((void *)in(&e, AT_DATA), PAGE, PROT_READ));
	CHECK(peek(&e, AT_DATA), 1234);
	FAILS(EACCES, mprotect((void *)in(&e, AT_DATA), PAGE, PROT_READ | PROT_EXEC));
	/* Another one gets the number and is another enclave. */
	CHECK(sgx_open(), e.fd);
	FAILS(EINVAL, sgx_init(e.fd, enclave_sigstruct));
	CHECK(peek(&e, AT_DATA), 1234);
	WORKS(munmap((void *)in(&e, AT_DATA), PAGE));
	EXCEPTION(&e, 0, OP_READ, in(&e, AT_DATA), &sum, 0, 14, 4, in(&e, AT_DATA));
	return success();
}
