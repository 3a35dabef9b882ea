/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctls of SGX2 are those of a kernel that has none yet (docs/coverage.md), in each state. */
#include "sgx.h"

static void refused(int fd)
{
	static const unsigned long codes[] = { SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, SGX_IOC_ENCLAVE_MODIFY_TYPES,
					       SGX_IOC_ENCLAVE_REMOVE_PAGES };
	uint64_t zeros[5] = { 0 };

	for (int i = 0; i < 3; i++) {
		FAILS(ENOTTY, ioctl(fd, codes[i], zeros));
		FAILS(ENOTTY, ioctl(fd, codes[i], 8));
	}
}

int main(void)
{
	struct enclave e;

	refused(sgx_open());
	e = created(0);
	refused(e.fd);
	add_all(e.fd);
	refused(e.fd);
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	refused(e.fd);
	return success();
}
