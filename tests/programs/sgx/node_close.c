/* SPDX-License-Identifier: Apache-2.0 */
/* What is closed is gone for every call, and the next descriptor with its number is another enclave. */
#include "sgx.h"

int main(void)
{
	int fd = sgx_open();
	struct secs secs = a_secs(reserve(0x10000), 0x10000);

	WORKS(sgx_create(fd, &secs));
	WORKS(close(fd));
	FAILS(EBADF, close(fd));
	FAILS(EBADF, sgx_create(fd, &secs));
	FAILS(EBADF, ioctl(fd, _IO(0xa4, 99)));
	FAILS(EBADF, sgx_init(fd, enclave_sigstruct));
	FAILS(EBADF, mmap(NULL, PAGE, PROT_NONE, MAP_SHARED, fd, 0));
	FAILS(EBADF, dup(fd));
	FAILS(EBADF, fcntl(fd, F_GETFL));
	FAILS(EBADF, lseek(fd, 0, SEEK_SET));
	CHECK(sgx_open(), fd);
	WORKS(sgx_create(fd, &secs));
	FAILS(EINVAL, sgx_create(fd, &secs));
	WORKS(syscall(SYS_close_range, fd, fd, 0));
	FAILS(EBADF, sgx_create(fd, &secs));
	return success();
}
