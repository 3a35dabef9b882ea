/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave is mapped shared and in no other way; where it is refused, what is mapped there stays. */
#include "sgx.h"

int main(void)
{
	struct enclave e = initialised(0);
	void *at = (void *)in(&e, AT_DATA);
	int r = (int)WORKS(open(SGX_ENCLAVE, O_RDONLY)), w = (int)WORKS(open(SGX_ENCLAVE, O_WRONLY));

	FAILS(EINVAL, mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, e.fd, 0));
	FAILS(EINVAL, mmap(at, PAGE, PROT_NONE, MAP_PRIVATE, e.fd, 0));
	FAILS(EINVAL, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, r, 0));
	/* The type comes before the descriptor's mode. */
	FAILS(EINVAL, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, w, 0));
	FAILS(EACCES, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, w, 0));
	CHECK(mmap(at, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_FIXED, e.fd, 0), at);
	FAILS(EOPNOTSUPP, mmap(at, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_FIXED | MAP_SYNC, e.fd, 0));
	FAILS(EEXIST, mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, e.fd, 0));
	WORKS(munmap(at, PAGE));
	CHECK(mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, e.fd, 0), at);
	/* The offset means nothing: the address says which page it is. */
	map_all(&e);
	CHECK(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, e.fd, 0x12345000), at);
	poke(&e, AT_DATA, 77);
	CHECK(mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, e.fd, 0), at);
	CHECK(peek(&e, AT_DATA), 77);
	return success();
}
