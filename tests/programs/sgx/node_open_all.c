/* SPDX-License-Identifier: Apache-2.0 */
/* All nodes open in all modes, with the lowest free descriptor, by open(2), openat(2) and openat2(2). */
#include "sgx.h"
#include <linux/openat2.h>

static const char *const nodes[] = { "/dev/sgx_enclave", "/dev/sgx_provision", "/dev/sgx/enclave",
				     "/dev/sgx/provision" };

int main(void)
{
	for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
		for (int mode = O_RDONLY; mode <= O_RDWR; mode++) {
			struct open_how how = { .flags = (unsigned int)mode };
			int fd = (int)WORKS(syscall(SYS_open, nodes[i], mode));

			CHECK(fcntl(fd, F_GETFL) & O_ACCMODE, mode);
			CHECK(syscall(SYS_openat, AT_FDCWD, nodes[i], mode), fd + 1);
			CHECK(syscall(SYS_openat2, AT_FDCWD, nodes[i], &how, sizeof(how)), fd + 2);
			CHECK(fcntl(fd + 2, F_GETFL) & O_ACCMODE, mode);
			close(fd);
			CHECK(open(nodes[i], mode), fd);
			for (int n = 0; n < 3; n++)
				WORKS(close(fd + n));
		}
	return success();
}
