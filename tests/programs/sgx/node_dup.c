/* SPDX-License-Identifier: Apache-2.0 */
/* dup, dup2, dup3 and F_DUPFD share the enclave: what is created by one is created for all. */
#include "sgx.h"

int main(void)
{
	int fd = sgx_open(), copies[5];
	struct secs secs = a_secs(reserve(0x10000), 0x10000);

	copies[0] = (int)WORKS(dup(fd));
	copies[1] = (int)CHECK(dup2(fd, 50), 50);
	copies[2] = (int)CHECK(dup3(fd, 51, O_CLOEXEC), 51);
	copies[3] = (int)CHECK(fcntl(fd, F_DUPFD, 60), 60);
	copies[4] = (int)CHECK(fcntl(fd, F_DUPFD_CLOEXEC, 60), 61);
	CHECK(dup2(fd, fd), fd);
	FAILS(EINVAL, dup3(fd, fd, 0));
	CHECK(fcntl(copies[1], F_GETFD), 0);
	CHECK(fcntl(copies[2], F_GETFD), FD_CLOEXEC);
	CHECK(fcntl(copies[3], F_GETFD), 0);
	CHECK(fcntl(copies[4], F_GETFD), FD_CLOEXEC);
	WORKS(close(fd));
	WORKS(sgx_create(copies[1], &secs));
	for (int i = 0; i < 5; i++)
		FAILS(EINVAL, sgx_create(copies[i], &secs));
	for (int i = 0; i < 5; i++)
		WORKS(close(copies[i]));
	FAILS(EBADF, sgx_create(copies[0], &secs));
	/* A descriptor of something else takes the number: it is no enclave any more. */
	fd = sgx_open();
	WORKS(dup2(STDERR_FILENO, fd));
	FAILS(ENOTTY, sgx_create(fd, &secs));
	return success();
}
