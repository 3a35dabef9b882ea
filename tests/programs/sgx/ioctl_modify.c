/* SPDX-License-Identifier: Apache-2.0 */
/* Each refusal of MODIFY_TYPES, in its order, with result and count. */
#include "sgx.h"

#define UNTOUCHED 77

static struct enclave e;
static struct sgx_enclave_modify_types told;

/* Before the pages are looked at. */
static void refused(uint64_t offset, uint64_t length, uint64_t page_type, uint64_t result, uint64_t count)
{
	told = (struct sgx_enclave_modify_types){ offset, length, page_type, result, count };
	FAILS(EINVAL, ioctl(e.fd, SGX_IOC_ENCLAVE_MODIFY_TYPES, &told));
	CHECK(told.result, result);
	CHECK(told.count, count);
}

static void stops(int error, uint64_t offset, uint64_t length, uint64_t flags, uint64_t result, uint64_t count)
{
	FAILS(error, sgx_modify(&e, offset, length, flags, &told));
	CHECK(told.result, result);
	CHECK(told.count, count);
}

int main(void)
{
	e = loaded();
	FAILS(EFAULT, ioctl(e.fd, SGX_IOC_ENCLAVE_MODIFY_TYPES, 8));
	refused(AT_DATA + 8, PAGE, 4, 0, 0);
	refused(AT_DATA, 0, 4, 0, 0);
	refused(AT_DATA, PAGE - 1, 4, 0, 0);
	refused(-PAGE, 2 * PAGE, 4, 0, 0);
	refused(ENCLAVE_SIZE, PAGE, 4, 0, 0);
	refused(AT_DATA, PAGE, 0x104, 0, 0);
	refused(AT_DATA, PAGE, 4, UNTOUCHED, 0);
	refused(AT_DATA, PAGE, 4, 0, UNTOUCHED);
	for (uint64_t type = 0; type < 8; type++)
		if (type != 1 && type != 4)
			refused(AT_DATA, PAGE, type, 0, 0);
	/* Pages: a hole; a mapping that may not be written, so that it can be no TCS; one that is one already. */
	stops(EFAULT, AT_HOLES, PAGE, SECINFO_TRIM, 0, 0);
	stops(EPERM, AT_CONSTANT, PAGE, SECINFO_TCS, 0, 0);
	stops(EPERM, 0, PAGE, SECINFO_TCS, 0, 0);
	stops(EINVAL, enclave_tcs[3], PAGE, SECINFO_TCS, 0, 0);
	WORKS(sgx_modify(&e, enclave_tcs[3], PAGE, SECINFO_TRIM, &told));
	CHECK(told.count, PAGE);
	stops(EINVAL, enclave_tcs[3], PAGE, SECINFO_TRIM, 0, 0);
	stops(EFAULT, AT_DATA + 2 * PAGE, 3 * PAGE, SECINFO_TRIM, 0, 2 * PAGE);
	stops(EINVAL, AT_DATA + PAGE, 2 * PAGE, SECINFO_TRIM, 0, PAGE);
	/* One that waits for its first EACCEPT. */
	CHECK(map_at(&e, AT_HOLES, PAGE, PROT_READ | PROT_WRITE), in(&e, AT_HOLES));
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT_HOLES), 1, 0, 14, 0x8007, in(&e, AT_HOLES));
	stops(EFAULT, AT_HOLES, PAGE, SECINFO_TCS, NOT_MODIFIABLE, 0);
	CHECK(ACCEPT(&e, 1, AT_HOLES, SECINFO_RW | SECINFO_PENDING), 0);
	RESUMES(&e, 0);
	CHECK(peek(&e, AT_HOLES), 1);
	/* It is no fit TCS, and the enclave finds that out. */
	WORKS(sgx_modify(&e, AT_HOLES, PAGE, SECINFO_TCS, &told));
	{
		struct leaf leaf = { .flags = SECINFO_TCS | SECINFO_MODIFIED, .page = in(&e, AT_HOLES) };

		EXCEPTION(&e, 0, OP_LEAF, &leaf, EACCEPT, 0, 13, 0, 0);
	}
	stops(EFAULT, AT_HOLES, PAGE, SECINFO_TRIM, NOT_MODIFIABLE, 0);
	return success();
}
