/* SPDX-License-Identifier: Apache-2.0 */
/* Grants are not seen by what is behind the last page, another SECINFO, a page twice, or an ioctl. */
#include "granted.h"

static void behind_the_last(void)
{
	const uint64_t next = more();
	uint64_t value;

	EXCEPTION(&e, 0, OP_READ, in(&e, AT(next + 1)) + 16, &value, 0, 14, 0x8005, in(&e, AT(next + 1)));
	CHECK(ACCEPT(&e, 1, AT(next + 1), PENDING), 0);
	RESUMES(&e, 0);
	CHECK(value, 0);
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT(next)) + 16, 7, 0, 14, 0x8007, in(&e, AT(next)));
	CHECK(ACCEPT(&e, 1, AT(next), PENDING), 0);
	RESUMES(&e, 0);
	CHECK(peek(&e, AT(next) + 16), 7);
	CHECK(ACCEPT(&e, 0, AT(next + 1), PENDING), ATTRIBUTES_MISMATCH);
	used += 2;
}

static void another_secinfo(void)
{
	const uint64_t next = more();
	struct leaf leaf = { .flags = SECINFO_RW, .page = in(&e, AT(next)) };

	CHECK(ACCEPT(&e, 0, AT(next - 1), PENDING), ATTRIBUTES_MISMATCH);
	EXCEPTION(&e, 0, OP_LEAF, &leaf, EACCEPT, 0, 13, 0, 0);
	CLEAN(&e, 0, OP_FRAME_ADD, FRAME_RIP, 3, 0);
	RESUMES(&e, 0);
	grow(0, next, 20);
	CHECK(ACCEPT(&e, 0, AT(next + 20), PENDING | SECINFO_X), ATTRIBUTES_MISMATCH);
	CHECK(ACCEPT(&e, 0, AT(next + 20), PENDING), 0);
	used += 21;
}

static void ioctls(void)
{
	struct sgx_enclave_restrict_permissions restricted;
	struct sgx_enclave_modify_types modified;
	struct sgx_enclave_remove_pages removed;
	const uint64_t next = more();

	/* As far as there are pages. */
	FAILS(EFAULT, sgx_restrict(&e, AT(next - 2), 4 * PAGE, PROT_READ, &restricted));
	CHECK(restricted.count, 2 * PAGE);
	CHECK(ACCEPT(&e, 0, AT(next - 2), SECINFO_REG | SECINFO_R | SECINFO_PR), 0);
	CHECK(ACCEPT(&e, 0, AT(next - 1), SECINFO_REG | SECINFO_R | SECINFO_PR), 0);
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT(next - 1)), 1, 0, 14, 0x8007, in(&e, AT(next - 1)));
	EXTEND(&e, 1, AT(next - 1), SECINFO_RW);
	RESUMES(&e, 0);
	grow(0, next, 9);
	used += 9;
	/* Trimmed and removed, the holes are holes again. */
	WORKS(sgx_modify(&e, AT(next), 9 * PAGE, SECINFO_TRIM, &modified));
	for (uint64_t i = 0; i < 9; i++)
		CHECK(ACCEPT(&e, 0, AT(next + i), SECINFO_TRIM | SECINFO_MODIFIED), 0);
	WORKS(sgx_remove(&e, AT(next), 9 * PAGE, &removed));
	CHECK(removed.count, 9 * PAGE);
	FAILS(EFAULT, sgx_modify(&e, AT(next), PAGE, SECINFO_TRIM, &modified));
	grow(0, next, 9);
	CHECK(peek(&e, AT(next + 8)), 0);
}

int main(void)
{
	begin();
	behind_the_last();
	another_secinfo();
	ioctls();
	more();
	return success();
}
