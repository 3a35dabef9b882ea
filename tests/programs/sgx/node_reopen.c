/* SPDX-License-Identifier: Apache-2.0 */
/* Each open is an enclave of its own, also of a descriptor in /proc or /dev/fd; dup is not. */
#include "sgx.h"

int main(void)
{
	int first = sgx_open(), other;
	struct secs secs = a_secs(reserve(0x10000), 0x10000);
	static const char *const ways[] = { "/proc/self/fd/%d", "/dev/fd/%d", "/proc/thread-self/fd/%d" };

	WORKS(sgx_create(first, &secs));
	for (int i = 0; i < 3; i++) {
		char path[40];

		snprintf(path, sizeof(path), ways[i], first);
		other = (int)WORKS(open(path, O_WRONLY | O_CLOEXEC));
		CHECK(other != first, 1);
		CHECK(fcntl(other, F_GETFL) & O_ACCMODE, O_WRONLY);
		CHECK(fcntl(other, F_GETFD), FD_CLOEXEC);
		WORKS(sgx_create(other, &secs));
		FAILS(EINVAL, sgx_create(other, &secs));
	}
	FAILS(EINVAL, sgx_create(first, &secs));
	FAILS(ENOENT, open("/proc/self/fd/99", O_RDWR));
	return success();
}
