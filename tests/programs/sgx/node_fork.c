/* SPDX-License-Identifier: Apache-2.0 */
/* fork shares the open file: what the child creates is created, and lives on when the child is gone. */
#include "sgx.h"

static struct secs secs;

static void create(void *fd)
{
	WORKS(sgx_create(*(int *)fd, &secs));
	close(*(int *)fd);
}

static void create_again(void *fd)
{
	FAILS(EINVAL, sgx_create(*(int *)fd, &secs));
}

int main(void)
{
	int fd = sgx_open(), other = sgx_open();

	secs = a_secs(reserve(0x10000), 0x10000);
	CHECK(in_child(create, &fd), 0);
	FAILS(EINVAL, sgx_create(fd, &secs));
	WORKS(sgx_add(fd, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
	WORKS(sgx_create(other, &secs));
	CHECK(in_child(create_again, &other), 0);
	FAILS(EBUSY, sgx_add(fd, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
	return success();
}
