/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES where a page is already: EBUSY; pages before it stay added, and count says how far it came. */
#include "sgx.h"

int main(void)
{
	int fd = created(0).fd;
	struct secinfo secinfo = { .flags = SECINFO_REG | SECINFO_R };
	struct sgx_enclave_add_pages add = { (uintptr_t)enclave_image, 0, 5 * PAGE, (uintptr_t)&secinfo, 1, 99 };

	WORKS(sgx_add(fd, enclave_image, 3 * PAGE, PAGE, SECINFO_REG | SECINFO_R));
	FAILS(EBUSY, sgx_add(fd, enclave_image, 3 * PAGE, PAGE, SECINFO_REG | SECINFO_R));
	FAILS(EBUSY, sgx_add(fd, enclave_image, 3 * PAGE, PAGE, SECINFO_TCS));
	FAILS(EBUSY, ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add));
	CHECK(add.count, 3 * PAGE);
	CHECK(add.src, (uintptr_t)enclave_image);
	CHECK(add.offset, 0);
	CHECK(add.length, 5 * PAGE);
	CHECK(add.flags, 1);
	FAILS(EBUSY, ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add));
	CHECK(add.count, 0);
	add.offset = 4 * PAGE;
	add.length = 2 * PAGE;
	WORKS(ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add));
	CHECK(add.count, 2 * PAGE);
	return success();
}
