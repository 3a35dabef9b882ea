/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor with O_PATH says where the node is and nothing else; opened again, it is a device. */
#include "sgx.h"

int main(void)
{
	int fd = (int)WORKS(open(SGX_ENCLAVE, O_PATH)), real;
	struct secs secs = a_secs(reserve(0x10000), 0x10000);
	struct stat status;
	char link[40], byte;

	WORKS(fstat(fd, &status));
	CHECK(S_ISCHR(status.st_mode), 1);
	CHECK(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
	FAILS(EBADF, sgx_create(fd, &secs));
	FAILS(EBADF, ioctl(fd, _IO(0xa4, 99)));
	FAILS(EBADF, mmap(NULL, PAGE, PROT_NONE, MAP_SHARED, fd, 0));
	FAILS(EBADF, read(fd, &byte, 1));
	FAILS(EBADF, write(fd, &byte, 1));
	FAILS(EBADF, lseek(fd, 0, SEEK_SET));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	real = (int)WORKS(open(link, O_RDWR));
	WORKS(sgx_create(real, &secs));
	return success();
}
