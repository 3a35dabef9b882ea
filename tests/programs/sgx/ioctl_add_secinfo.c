/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES: which SECINFO is refused, which is not, though it looks odd. */
#include "sgx.h"

static int fd;
static uint64_t at;

static int add(uint64_t flags, int reserved)
{
	/* Any alignment will do. */
	char bytes[80] = { 0 };
	struct sgx_enclave_add_pages add = { (uintptr_t)enclave_image, at, PAGE, (uintptr_t)bytes + 1, 0, 0 };
	int result;

	memcpy(bytes + 1, &flags, sizeof(flags));
	if (reserved)
		bytes[1 + reserved] = 1;
	result = ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add);
	CHECK(add.count, result ? 0 : PAGE);
	at += result ? 0 : PAGE;
	return result;
}

int main(void)
{
	fd = created(0).fd;
	for (uint64_t type = 0; type < 256; type++)
		if (type != 1 && type != 2)
			FAILS(EINVAL, add(type << 8, 0));
	FAILS(EINVAL, add(SECINFO_REG | SECINFO_W, 0));
	FAILS(EINVAL, add(SECINFO_REG | SECINFO_W | SECINFO_X, 0));
	for (uint64_t permissions = 1; permissions < 8; permissions++)
		FAILS(EINVAL, add(SECINFO_TCS | permissions, 0));
	for (int bit = 3; bit < 64; bit++)
		if (bit < 8 || bit > 15)
			FAILS(EINVAL, add(SECINFO_REG | SECINFO_R | 1ul << bit, 0));
	for (int byte = 8; byte < 64; byte++)
		FAILS(EINVAL, add(SECINFO_REG | SECINFO_R, byte));
	WORKS(add(SECINFO_REG, 0));
	WORKS(add(SECINFO_REG | SECINFO_X, 0));
	WORKS(add(SECINFO_REG | SECINFO_R, 0));
	WORKS(add(SECINFO_REG | SECINFO_R | SECINFO_W, 0));
	WORKS(add(SECINFO_REG | SECINFO_R | SECINFO_X, 0));
	WORKS(add(SECINFO_REG | SECINFO_R | SECINFO_W | SECINFO_X, 0));
	return success();
}
