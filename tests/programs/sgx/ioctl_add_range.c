/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES: what is wrong with src, offset and length; the structure stays as it was. */
#include "sgx.h"

static int fd;
static struct secinfo secinfo = { .flags = SECINFO_REG | SECINFO_R };

static int add(uint64_t src, uint64_t offset, uint64_t length, uint64_t info)
{
	struct sgx_enclave_add_pages add = { src, offset, length, info, 1, 77 }, before = add;
	int result = ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add);

	CHECK(result ? memcmp(&add, &before, sizeof(add)) : 0, 0);
	return result;
}

int main(void)
{
	uint64_t src = (uintptr_t)enclave_image, info = (uintptr_t)&secinfo;

	fd = created(0).fd;
	FAILS(EINVAL, add(src + 1, 0, PAGE, info));
	FAILS(EINVAL, add(src + 8, 0, PAGE, info));
	FAILS(EINVAL, add(src, 1, PAGE, info));
	FAILS(EINVAL, add(src, 0x800, PAGE, info));
	FAILS(EINVAL, add(src, 0, 0, info));
	FAILS(EINVAL, add(src, 0, 1, info));
	FAILS(EINVAL, add(src, 0, PAGE + 1, info));
	FAILS(EINVAL, add(src, -PAGE, 2 * PAGE, info));
	FAILS(EINVAL, add(src, PAGE, -PAGE, info));
	FAILS(EINVAL, add(src, ENCLAVE_SIZE, PAGE, info));
	FAILS(EINVAL, add(src, ENCLAVE_SIZE - PAGE, 2 * PAGE, info));
	FAILS(EINVAL, add(src, 0, ENCLAVE_SIZE + PAGE, info));
	/* These come before SECINFO. */
	FAILS(EINVAL, add(src, 0, 0, 8));
	FAILS(EINVAL, add(src, ENCLAVE_SIZE, PAGE, 8));
	FAILS(EFAULT, add(src, 0, PAGE, 8));
	FAILS(EFAULT, add(src, 0, PAGE, 0));
	/* The limits themselves. */
	WORKS(add(src, ENCLAVE_SIZE - PAGE, PAGE, info));
	WORKS(add(src, 0, ENCLAVE_SIZE - PAGE, info));
	return success();
}
