/* SPDX-License-Identifier: Apache-2.0 */
/* RESTRICT_PERMISSIONS: the EPCM forbids at once, whatever the mapping says; the enclave agrees, and can take it back. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	struct sgx_enclave_restrict_permissions told;
	uint64_t value = 0;
	void *data = (void *)in(&e, AT_DATA);

	poke(&e, AT_DATA, 5);
	WORKS(sgx_restrict(&e, AT_DATA, 2 * PAGE, PROT_READ, &told));
	CHECK(told.result, 0);
	CHECK(told.count, 2 * PAGE);
	/* Before it is accepted: usable as far as it goes. */
	CHECK(peek(&e, AT_DATA), 5);
	EXCEPTION(&e, 0, OP_WRITE, data, 6, 0, 14, 0x8007, data);
	WORKS(mprotect(data, PAGE, PROT_READ | PROT_WRITE));
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_error_code, 0x8007);
	CHECK(ACCEPT(&e, 1, AT_DATA, SECINFO_REG | SECINFO_R | SECINFO_W | SECINFO_PR), ATTRIBUTES_MISMATCH);
	CHECK(ACCEPT(&e, 1, AT_DATA, SECINFO_REG | SECINFO_R | SECINFO_PR), 0);
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_error_code, 0x8007);
	CHECK(peek(&e, AT_DATA), 5);
	EXTEND(&e, 1, AT_DATA, SECINFO_RW);
	RESUMES(&e, 0);
	CHECK(peek(&e, AT_DATA), 6);
	/* The second page still waits. */
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT_DATA) + PAGE, 6, 0, 14, 0x8007, in(&e, AT_DATA) + PAGE);
	EXTEND(&e, 1, AT_DATA + PAGE, SECINFO_RW);
	RESUMES(&e, 0);
	/* Nothing at all; and more than there is, which gives nothing. */
	WORKS(sgx_restrict(&e, AT_DATA, PAGE, 0, &told));
	EXCEPTION(&e, 0, OP_READ, data, &value, 0, 14, 0x8005, data);
	WORKS(sgx_restrict(&e, AT_DATA, PAGE, PROT_READ | PROT_WRITE, &told));
	CHECK(told.count, PAGE);
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_error_code, 0x8005);
	CHECK(ACCEPT(&e, 1, AT_DATA, SECINFO_REG | SECINFO_PR), 0);
	EXTEND(&e, 1, AT_DATA, SECINFO_RW);
	RESUMES(&e, 0);
	CHECK(value, 6);
	/* The mapping's own limit is as it was. */
	WORKS(mprotect(data, PAGE, PROT_READ));
	WORKS(mprotect(data, PAGE, PROT_READ | PROT_WRITE));
	return success();
}
