/* SPDX-License-Identifier: Apache-2.0 */
/* Each refusal of RESTRICT_PERMISSIONS, in its order, with result and count. */
#include "sgx.h"

#define UNTOUCHED 77

static struct enclave e;
static struct sgx_enclave_restrict_permissions told;

/* Before the pages are looked at: nothing is written back. */
static void refused(uint64_t offset, uint64_t length, uint64_t permissions, uint64_t result, uint64_t count)
{
	told = (struct sgx_enclave_restrict_permissions){ offset, length, permissions, result, count };
	FAILS(EINVAL, ioctl(e.fd, SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, &told));
	CHECK(told.result, result);
	CHECK(told.count, count);
}

static void stops(int error, uint64_t offset, uint64_t length, uint64_t permissions, uint64_t result, uint64_t count)
{
	FAILS(error, sgx_restrict(&e, offset, length, permissions, &told));
	CHECK(told.result, result);
	CHECK(told.count, count);
}

int main(void)
{
	struct sgx_enclave_modify_types modified;
	void *read_only = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	e = loaded();
	FAILS(EFAULT, ioctl(e.fd, SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, 8));
	refused(AT_DATA + 8, PAGE, 1, 0, 0);
	refused(AT_DATA, 0, 1, 0, 0);
	refused(AT_DATA, PAGE + 8, 1, 0, 0);
	refused(-PAGE, 2 * PAGE, 1, 0, 0);
	refused(ENCLAVE_SIZE, PAGE, 1, 0, 0);
	refused(AT_DATA, ENCLAVE_SIZE, 1, 0, 0);
	refused(AT_DATA, PAGE, 8, 0, 0);
	refused(AT_DATA, PAGE, 1ul << 63, 0, 0);
	refused(AT_DATA, PAGE, PROT_WRITE, 0, 0);
	refused(AT_DATA, PAGE, PROT_WRITE | PROT_EXEC, 0, 0);
	refused(AT_DATA, PAGE, 1, UNTOUCHED, 0);
	refused(AT_DATA, PAGE, 1, 0, UNTOUCHED);
	/* Pages: a hole, another type, one that waits; each time with what was done before. */
	stops(EFAULT, AT_HOLES, PAGE, 1, 0, 0);
	stops(EFAULT, AT_DATA + 2 * PAGE, 3 * PAGE, 1, 0, 2 * PAGE);
	stops(EINVAL, enclave_tcs[0], PAGE, 1, 0, 0);
	WORKS(sgx_modify(&e, AT_DATA + PAGE, PAGE, SECINFO_TRIM, &modified));
	stops(EINVAL, AT_DATA, 2 * PAGE, 1, 0, PAGE);
	CHECK(map_at(&e, AT_HOLES, PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT_HOLES), 1, 0, 14, 0x8007, in(&e, AT_HOLES));
	stops(EFAULT, AT_HOLES, PAGE, 1, NOT_MODIFIABLE, 0);
	/* What can be done is done again, before it is accepted and behind it. */
	WORKS(sgx_restrict(&e, AT_DATA, PAGE, 1, &told));
	WORKS(sgx_restrict(&e, AT_DATA, PAGE, 0, &told));
	CHECK(told.count, PAGE);
	CHECK(ACCEPT(&e, 1, AT_DATA, SECINFO_REG | SECINFO_PR), 0);
	/* Where the answer cannot be written, it is done all the same. */
	memcpy(read_only, &(struct sgx_enclave_restrict_permissions){ AT_DATA + 2 * PAGE, PAGE, 0, 0, 0 }, sizeof(told));
	WORKS(mprotect(read_only, PAGE, PROT_READ));
	FAILS(EFAULT, ioctl(e.fd, SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, read_only));
	CHECK(ACCEPT(&e, 1, AT_DATA + 2 * PAGE, SECINFO_REG | SECINFO_PR), 0);
	return success();
}
