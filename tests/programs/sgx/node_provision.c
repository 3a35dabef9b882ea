/* SPDX-License-Identifier: Apache-2.0 */
/* The provisioning node can be opened and given to an enclave; nothing else. */
#include "sgx.h"

int main(void)
{
	int fd = (int)WORKS(open(SGX_PROVISION, O_RDWR));
	struct enclave e = created(0);
	char byte;

	FAILS(ENODEV, mmap(NULL, PAGE, PROT_NONE, MAP_SHARED, fd, 0));
	FAILS(ENODEV, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	FAILS(ENODEV, mmap((void *)e.base, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	FAILS(EINVAL, mmap(NULL, 0, PROT_NONE, MAP_SHARED, fd, 0));
	FAILS(EINVAL, read(fd, &byte, 1));
	FAILS(EINVAL, write(fd, &byte, 1));
	FAILS(ESPIPE, lseek(fd, 0, SEEK_SET));
	WORKS(sgx_provision(e.fd, (uint64_t)fd));
	WORKS(close(fd));
	FAILS(EBADF, close(fd));
	return success();
}
