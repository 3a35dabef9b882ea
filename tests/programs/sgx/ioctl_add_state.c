/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES and INIT before CREATE and after INIT: EINVAL, before anything else is looked at. */
#include "sgx.h"

static void refused(int fd)
{
	FAILS(EINVAL, sgx_add(fd, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
	FAILS(EINVAL, sgx_add(fd, enclave_image, 0x3f000, PAGE, SECINFO_REG | SECINFO_R));
	FAILS(EINVAL, ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, 8));
	FAILS(EINVAL, ioctl(fd, SGX_IOC_ENCLAVE_INIT, 8));
	FAILS(EINVAL, sgx_init(fd, NULL));
	FAILS(EINVAL, sgx_init(fd, enclave_sigstruct));
}

int main(void)
{
	struct enclave e = built(0);

	FAILS(EFAULT, ioctl(e.fd, SGX_IOC_ENCLAVE_ADD_PAGES, 8));
	FAILS(EFAULT, ioctl(e.fd, SGX_IOC_ENCLAVE_INIT, 8));
	FAILS(EFAULT, sgx_init(e.fd, NULL));
	refused(sgx_open());
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	refused(e.fd);
	return success();
}
