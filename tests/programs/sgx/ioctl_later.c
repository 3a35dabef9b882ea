/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctls of SGX2 look at the enclave's state before they read their argument. */
#include "sgx.h"

static void all_fail(int fd, int number, const void *argument)
{
	FAILS(number, ioctl(fd, SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, argument));
	FAILS(number, ioctl(fd, SGX_IOC_ENCLAVE_MODIFY_TYPES, argument));
	FAILS(number, ioctl(fd, SGX_IOC_ENCLAVE_REMOVE_PAGES, argument));
}

static void refused(int fd)
{
	uint64_t zeros[5] = { 0 };

	all_fail(fd, EINVAL, zeros);
	all_fail(fd, EINVAL, (const void *)8);
}

int main(void)
{
	struct enclave e;
	uint64_t zeros[5] = { 0 };

	refused(sgx_open());
	e = created(0);
	refused(e.fd);
	add_all(e.fd);
	refused(e.fd);
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	all_fail(e.fd, EINVAL, zeros);
	all_fail(e.fd, EFAULT, (const void *)8);
	return success();
}
