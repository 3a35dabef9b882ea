/* SPDX-License-Identifier: Apache-2.0 */
/* A hundred enclaves at once, again and again: what is closed gives its pages back. */
#include "sgx.h"

int main(void)
{
	struct secs secs = a_secs(reserve(0x10000), 0x10000);
	int fds[100];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 100; i++) {
			fds[i] = sgx_open();
			WORKS(sgx_create(fds[i], &secs));
			WORKS(sgx_add(fds[i], enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
		}
		for (int i = 0; i < 100; i++) {
			FAILS(EBUSY, sgx_add(fds[i], enclave_image, 0, PAGE, SECINFO_REG | SECINFO_R));
			WORKS(close(fds[i]));
		}
	}
	return success();
}
