/* SPDX-License-Identifier: Apache-2.0 */
/* CREATE reads its SECS from any address that can be read, aligned or not, and from no other. */
#include "sgx.h"

int main(void)
{
	struct secs secs = a_secs(reserve(0x10000), 0x10000);
	char *two = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	WORKS(munmap(two + 2 * PAGE, PAGE));
	memcpy(two + 1, &secs, sizeof(secs));
	WORKS(sgx_create(sgx_open(), (struct secs *)(two + 1)));
	memcpy(two + PAGE, &secs, sizeof(secs));
	WORKS(sgx_create(sgx_open(), (struct secs *)(two + PAGE)));
	FAILS(EFAULT, sgx_create(sgx_open(), (struct secs *)(two + PAGE + 1)));
	WORKS(mprotect(two + PAGE, PAGE, PROT_READ));
	WORKS(sgx_create(sgx_open(), (struct secs *)(two + PAGE)));
	WORKS(mprotect(two + PAGE, PAGE, PROT_NONE));
	FAILS(EFAULT, sgx_create(sgx_open(), (struct secs *)(two + PAGE)));
	FAILS(EFAULT, sgx_create(sgx_open(), (struct secs *)(two + PAGE - 1)));
	FAILS(EFAULT, sgx_create(sgx_open(), (struct secs *)-8ul));
	return success();
}
