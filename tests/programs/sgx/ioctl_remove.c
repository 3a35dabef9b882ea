/* SPDX-License-Identifier: Apache-2.0 */
/* Each refusal of REMOVE_PAGES, in its order, with its count. */
#include "sgx.h"

#define UNTOUCHED 77

static struct enclave e;
static struct sgx_enclave_remove_pages told;

/* Before the pages are looked at. */
static void refused(uint64_t offset, uint64_t length, uint64_t count)
{
	told = (struct sgx_enclave_remove_pages){ offset, length, count };
	FAILS(EINVAL, ioctl(e.fd, SGX_IOC_ENCLAVE_REMOVE_PAGES, &told));
	CHECK(told.count, count);
}

static void stops(int error, uint64_t offset, uint64_t length, uint64_t count)
{
	FAILS(error, sgx_remove(&e, offset, length, &told));
	CHECK(told.count, count);
}

int main(void)
{
	struct sgx_enclave_modify_types modified;

	e = loaded();
	FAILS(EFAULT, ioctl(e.fd, SGX_IOC_ENCLAVE_REMOVE_PAGES, 8));
	refused(AT_DATA + 8, PAGE, 0);
	refused(AT_DATA, 0, 0);
	refused(AT_DATA, PAGE - 1, 0);
	refused(-PAGE, 2 * PAGE, 0);
	refused(ENCLAVE_SIZE, PAGE, 0);
	refused(AT_DATA, PAGE, UNTOUCHED);
	stops(EFAULT, AT_HOLES, PAGE, 0);
	stops(EPERM, AT_DATA, PAGE, 0);
	stops(EPERM, enclave_tcs[0], PAGE, 0);
	WORKS(sgx_modify(&e, AT_DATA, 4 * PAGE, SECINFO_TRIM, &modified));
	stops(EPERM, AT_DATA, PAGE, 0);
	for (uint64_t i = 0; i < 3; i++)
		CHECK(ACCEPT(&e, 0, AT_DATA + i * PAGE, SECINFO_TRIM | SECINFO_MODIFIED), 0);
	stops(EPERM, AT_DATA, 4 * PAGE, 3 * PAGE);
	stops(EFAULT, AT_DATA, PAGE, 0);
	CHECK(ACCEPT(&e, 0, AT_DATA + 3 * PAGE, SECINFO_TRIM | SECINFO_MODIFIED), 0);
	WORKS(sgx_remove(&e, AT_DATA + 3 * PAGE, PAGE, &told));
	CHECK(told.count, PAGE);
	/* They need not be mapped. */
	CHECK(ACCEPT(&e, 0, AT_DATA, SECINFO_RW | SECINFO_PENDING), 0);
	WORKS(sgx_modify(&e, AT_DATA, PAGE, SECINFO_TRIM, &modified));
	CHECK(ACCEPT(&e, 0, AT_DATA, SECINFO_TRIM | SECINFO_MODIFIED), 0);
	WORKS(munmap((void *)in(&e, AT_DATA), 4 * PAGE));
	WORKS(sgx_remove(&e, AT_DATA, PAGE, &told));
	return success();
}
