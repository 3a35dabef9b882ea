/* SPDX-License-Identifier: Apache-2.0 */
/* No ioctl looks at the mode in which the node was opened; nor at whether anything is mapped. */
#include "sgx.h"

int main(void)
{
	for (int mode = O_RDONLY; mode <= O_ACCMODE; mode++) {
		int fd = (int)WORKS(open(SGX_ENCLAVE, mode)), provision = (int)WORKS(open(SGX_PROVISION, mode % O_ACCMODE));
		struct secs secs = a_secs(ENCLAVE_SIZE * 16, ENCLAVE_SIZE);

		WORKS(sgx_create(fd, &secs));
		add_all(fd);
		WORKS(sgx_provision(fd, (uint64_t)provision));
		WORKS(sgx_init(fd, enclave_sigstruct));
		close(fd);
		close(provision);
	}
	return success();
}
