/* SPDX-License-Identifier: Apache-2.0 */
/* CREATE: each errno in its order; a failed one can be tried again, a second one cannot. */
#include "sgx.h"

static int with(int fd, struct secs secs, size_t offset, uint64_t value, size_t size)
{
	memcpy((char *)&secs + offset, &value, size);
	return sgx_create(fd, &secs);
}

#define WITH(field, value) with(fd, good, offsetof(struct secs, field), value, sizeof(good.field))

int main(void)
{
	struct secs good = a_secs(reserve(0x10000), 0x10000);
	int fd = sgx_open();

	FAILS(EFAULT, ioctl(fd, SGX_IOC_ENCLAVE_CREATE, NULL));
	FAILS(EFAULT, ioctl(fd, SGX_IOC_ENCLAVE_CREATE, 8));
	FAILS(EFAULT, sgx_create(fd, NULL));
	FAILS(EFAULT, sgx_create(fd, (void *)(1ul << 63)));
	FAILS(EINVAL, WITH(size, 0));
	FAILS(EINVAL, WITH(size, 0x18000));
	FAILS(EINVAL, WITH(size, 0x10001));
	FAILS(EIO, WITH(base, good.base + 0x1000));
	FAILS(EIO, WITH(base, 1ul << 62));
	FAILS(EIO, WITH(size, 0x1000));
	FAILS(EIO, WITH(ssaframesize, 0));
	FAILS(EIO, WITH(miscselect, 1u << 31));
	FAILS(EIO, WITH(attributes, 1ul << 3 | ATTRIBUTE_MODE64));
	FAILS(EIO, WITH(attributes, 1 | ATTRIBUTE_MODE64));
	FAILS(EIO, WITH(attributes, 1ul << 63 | ATTRIBUTE_MODE64));
	FAILS(EIO, WITH(xfrm, 0));
	FAILS(EIO, WITH(xfrm, 1));
	FAILS(EIO, WITH(xfrm, 1ul << 62 | 3));
	FAILS(EIO, WITH(reserved[0], 1));
	FAILS(EIO, WITH(rest[4031], 1));
	WORKS(sgx_create(fd, &good));
	FAILS(EINVAL, sgx_create(fd, &good));
	FAILS(EINVAL, ioctl(fd, SGX_IOC_ENCLAVE_CREATE, 8));
	FAILS(EINVAL, WITH(size, 0));
	return success();
}
