/* SPDX-License-Identifier: Apache-2.0 */
/* A page goes: trimmed, accepted, removed. Then its address is a hole, which gets a new page. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	struct sgx_enclave_modify_types told;
	struct sgx_enclave_remove_pages removed;
	uint64_t value = 9;
	void *data = (void *)in(&e, AT_DATA);

	for (uint64_t i = 0; i < 4; i++)
		poke(&e, AT_DATA + i * PAGE, 5 + i);
	WORKS(sgx_modify(&e, AT_DATA, 3 * PAGE, SECINFO_TRIM, &told));
	CHECK(told.result, 0);
	CHECK(told.count, 3 * PAGE);
	/* It is mapped, and out of reach. */
	EXCEPTION(&e, 0, OP_READ, data, &value, 0, 14, 0x8005, data);
	FAILS(EPERM, sgx_remove(&e, AT_DATA, PAGE, &removed));
	CHECK(removed.count, 0);
	for (uint64_t i = 0; i < 2; i++)
		CHECK(ACCEPT(&e, 1, AT_DATA + i * PAGE, SECINFO_TRIM | SECINFO_MODIFIED), 0);
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_error_code, 0x8005);
	FAILS(EPERM, sgx_remove(&e, AT_DATA, 3 * PAGE, &removed));
	CHECK(removed.count, 2 * PAGE);
	/* A new page, as any in a hole. */
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_error_code, 0x8005);
	CHECK(ACCEPT(&e, 1, AT_DATA, SECINFO_RW | SECINFO_PENDING), 0);
	RESUMES(&e, 0);
	CHECK(value, 0);
	CHECK(peek(&e, AT_DATA + 3 * PAGE), 8);
	/* Which may be mapped in each way. */
	WORKS(mprotect(data, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	FAILS(EACCES, mprotect((char *)data + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	/* Again and again at one place. */
	for (uint64_t i = 0; i < 20; i++) {
		poke(&e, AT_DATA, i);
		CHECK(peek(&e, AT_DATA), i);
		WORKS(sgx_modify(&e, AT_DATA, PAGE, SECINFO_TRIM, &told));
		CHECK(ACCEPT(&e, 1, AT_DATA, SECINFO_TRIM | SECINFO_MODIFIED), 0);
		WORKS(sgx_remove(&e, AT_DATA, PAGE, &removed));
		CHECK(removed.count, PAGE);
		CHECK(ACCEPT(&e, 1, AT_DATA, SECINFO_RW | SECINFO_PENDING), 0);
		CHECK(peek(&e, AT_DATA), 0);
	}
	return success();
}
