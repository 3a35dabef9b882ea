/* SPDX-License-Identifier: Apache-2.0 */
/* INIT: whatever EINIT does not like is EPERM, and can be tried again; after success it is EINVAL. */
#include "sgx.h"

static int with(int fd, size_t offset, uint8_t bits)
{
	/* At any address. */
	unsigned char bytes[1809];

	memcpy(bytes + 1, enclave_sigstruct, 1808);
	bytes[1 + offset] ^= bits;
	return sgx_init(fd, bytes + 1);
}

int main(void)
{
	int fd = built(0).fd;

	FAILS(EINVAL, with(fd, 16, 1));	  /* VENDOR */
	FAILS(EINVAL, with(fd, 19, 0x80));
	FAILS(EPERM, with(fd, 0, 1));	  /* HEADER */
	FAILS(EPERM, with(fd, 20, 1));	  /* DATE: the signature does not fit */
	FAILS(EPERM, with(fd, 128, 1));	  /* modulus */
	FAILS(EPERM, with(fd, 512, 1));	  /* exponent */
	FAILS(EPERM, with(fd, 516, 1));	  /* signature */
	FAILS(EPERM, with(fd, 960, 1));	  /* measurement */
	FAILS(EPERM, with(fd, 1040, 1));  /* Q1 */
	FAILS(EPERM, with(fd, 1424, 1));  /* Q2 */
	FAILS(EPERM, with(fd, 44, 1));	  /* reserved */
	FAILS(EFAULT, sgx_init(fd, (void *)8));
	WORKS(with(fd, 0, 0));
	FAILS(EINVAL, with(fd, 0, 0));
	FAILS(EINVAL, with(fd, 16, 1));
	FAILS(EINVAL, sgx_init(fd, (void *)8));
	WORKS(sgx_init(built(0).fd, enclave_sigstruct_intel));
	return success();
}
