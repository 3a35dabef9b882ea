/* SPDX-License-Identifier: Apache-2.0 */
/* exec keeps the open enclave, in its state, unless it was to be closed. */
#include "sgx.h"

int main(int argc, char **argv)
{
	struct secs secs = a_secs(reserve(0x10000), 0x10000);

	if (argc > 2) {
		int kept = atoi(argv[1]), closed = atoi(argv[2]);

		FAILS(EBADF, sgx_create(closed, &secs));
		FAILS(EINVAL, sgx_create(kept, &secs));
		FAILS(EBUSY, sgx_add(kept, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
		WORKS(sgx_add(kept, enclave_image, PAGE, PAGE, SECINFO_REG | SECINFO_R));
		WORKS(sgx_create(sgx_open(), &secs));
		return success();
	}
	char words[2][12];
	char *program[] = { argv[0], words[0], words[1], NULL };
	int kept = sgx_open(), closed = (int)WORKS(open(SGX_ENCLAVE, O_RDWR | O_CLOEXEC));

	WORKS(sgx_create(kept, &secs));
	WORKS(sgx_add(kept, enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
	WORKS(sgx_create(closed, &secs));
	snprintf(words[0], sizeof(words[0]), "%d", kept);
	snprintf(words[1], sizeof(words[1]), "%d", closed);
	execv("/proc/self/exe", program);
	return 1;
}
