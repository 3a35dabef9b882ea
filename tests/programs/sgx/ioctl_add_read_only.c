/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES with its structure where count cannot be written: EFAULT, but the pages are there. */
#include "sgx.h"

int main(void)
{
	int fd = created(0).fd;
	struct secinfo secinfo = { .flags = SECINFO_REG | SECINFO_R };
	struct sgx_enclave_add_pages *add =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*add = (struct sgx_enclave_add_pages){ (uintptr_t)enclave_image, 0, 2 * PAGE, (uintptr_t)&secinfo, 1, 0 };
	WORKS(mprotect(add, PAGE, PROT_READ));
	FAILS(EFAULT, ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, add));
	CHECK(add->count, 0);
	FAILS(EBUSY, sgx_add(fd, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
	FAILS(EBUSY, sgx_add(fd, enclave_image, PAGE, PAGE, SECINFO_REG | SECINFO_R));
	WORKS(sgx_add(fd, enclave_image, 2 * PAGE, PAGE, SECINFO_REG | SECINFO_R));
	return success();
}
