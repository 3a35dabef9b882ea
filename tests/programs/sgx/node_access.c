/* SPDX-License-Identifier: Apache-2.0 */
/* access(2), faccessat(2) and faccessat2(2) of a device: nobody may execute it, even root. Compared with a device. */
#include "sgx.h"

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : SGX_ENCLAVE, *name = strrchr(path, '/') + 1;
	int dev = (int)WORKS(open("/dev", O_PATH)), fd = (int)WORKS(open(path, O_RDONLY));

	SAY(access(path, F_OK));
	SAY(access(path, R_OK));
	SAY(access(path, W_OK));
	SAY(access(path, R_OK | W_OK));
	SAY(access(path, X_OK));
	SAY(access(path, R_OK | X_OK));
	SAY(access(path, 8));
	SAY(faccessat(dev, name, R_OK, 0));
	SAY(faccessat(dev, name, X_OK, 0));
	SAY(faccessat(fd, name, R_OK, 0));
	SAY(faccessat(-1, path, R_OK, 0));
	SAY(syscall(SYS_faccessat2, dev, name, R_OK, AT_EACCESS));
	SAY(syscall(SYS_faccessat2, dev, name, X_OK, AT_EACCESS));
	SAY(syscall(SYS_faccessat2, dev, name, R_OK, AT_SYMLINK_NOFOLLOW));
	SAY(syscall(SYS_faccessat2, fd, "", R_OK, AT_EMPTY_PATH));
	SAY(syscall(SYS_faccessat2, fd, "", X_OK, AT_EMPTY_PATH));
	SAY(syscall(SYS_faccessat2, dev, name, R_OK, 1 << 30));
	return success();
}
