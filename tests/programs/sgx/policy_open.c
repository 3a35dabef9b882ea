/* SPDX-License-Identifier: Apache-2.0 */
/* A17: who may not open the node may not open it by another of its names. */
#include "policy.h"

int main(int argc, char **argv)
{
	static const char *const names[] = { SGX_ENCLAVE, "/dev/sgx/enclave", "/dev/../dev/sgx_enclave", "link", SGX_PROVISION };

	(void)argc;
	begin(argv);
	unlink("link");
	WORKS(symlink(SGX_ENCLAVE, "link"));
	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		REFUSED(open(names[i], O_RDWR));
		/* To look at it is not to open it. */
		WORKS(open(names[i], O_PATH));
		WORKS(access(names[i], R_OK | W_OK));
	}
	return success();
}
