/* SPDX-License-Identifier: Apache-2.0 */
/* Calls for files that a device refuses, and those that it takes. Compared with a device. */
#include "sgx.h"
#include <sys/file.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

int main(int argc, char **argv)
{
	int fd = (int)WORKS(open(argc > 1 ? argv[1] : SGX_ENCLAVE, O_RDWR));
	struct flock lock = { .l_type = F_WRLCK };
	struct statfs system;
	char buffer[100];

	SAY(ftruncate(fd, 0));
	SAY(ftruncate(fd, 4096));
	SAY(fallocate(fd, 0, 0, 4096));
	SAY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	SAY(fsync(fd));
	SAY(fdatasync(fd));
	SAY(fchdir(fd));
	SAY(syscall(SYS_getdents64, fd, buffer, sizeof(buffer)));
	SAY(fcntl(fd, F_GET_SEALS));
	SAY(fcntl(fd, F_ADD_SEALS, 1));
	SAY(fcntl(fd, F_SETPIPE_SZ, 4096));
	SAY(flock(fd, LOCK_SH));
	SAY(flock(fd, LOCK_EX | LOCK_NB));
	SAY(flock(fd, LOCK_UN));
	SAY(fcntl(fd, F_SETLK, &lock));
	SAY(fcntl(fd, F_GETOWN));
	SAY(fstatfs(fd, &system));
	SAY(listen(fd, 1));
	SAY(getsockname(fd, (void *)buffer, &(socklen_t){ sizeof(buffer) }));
	SAY(syscall(SYS_copy_file_range, fd, NULL, fd, NULL, 1, 0));
	return success();
}
