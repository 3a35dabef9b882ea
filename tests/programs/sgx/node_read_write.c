/* SPDX-License-Identifier: Apache-2.0 */
/* Neither node can be read, written or sought in; and EBADF comes first where the mode does not allow it. */
#include "sgx.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

static void both(const char *path)
{
	int fd = (int)WORKS(open(path, O_RDWR)), r = (int)WORKS(open(path, O_RDONLY));
	int w = (int)WORKS(open(path, O_WRONLY)), pipes[2];
	char byte = 0;
	struct iovec vector = { &byte, 1 };

	WORKS(pipe(pipes));
	FAILS(EINVAL, read(fd, &byte, 1));
	FAILS(EINVAL, read(fd, &byte, 0));
	FAILS(EINVAL, syscall(SYS_read, fd, 8, 1));
	FAILS(EINVAL, write(fd, &byte, 1));
	FAILS(EINVAL, write(fd, &byte, 0));
	FAILS(EINVAL, readv(fd, &vector, 1));
	FAILS(EINVAL, writev(fd, &vector, 1));
	FAILS(EINVAL, sendfile(pipes[1], fd, NULL, 1));
	FAILS(EBADF, write(r, &byte, 1));
	FAILS(EBADF, read(w, &byte, 1));
	FAILS(EINVAL, read(r, &byte, 1));
	FAILS(EINVAL, write(w, &byte, 1));
	for (int whence = SEEK_SET; whence <= SEEK_HOLE; whence++) {
		FAILS(ESPIPE, lseek(fd, 0, whence));
		FAILS(ESPIPE, lseek(pipes[0], 0, whence));
	}
	FAILS(EINVAL, lseek(fd, 0, 99));
	FAILS(EINVAL, lseek(pipes[0], 0, 99));
	FAILS(EINVAL, read(fd, &byte, 1));
}

int main(void)
{
	both(SGX_ENCLAVE);
	both(SGX_PROVISION);
	return success();
}
