/* SPDX-License-Identifier: Apache-2.0 */
/* EMODPE gives a page more permissions; the mapping must have them, too. */
#include "sgx.h"

#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)

/* mov $42, (%r8); leave as the enclave does: 17 bytes. */
static const unsigned char code[24] = { 0x49, 0xc7, 0x00, 42, 0, 0, 0, 0x48, 0x89, 0xcb, 0xb8, 4, 0, 0, 0, 0x0f, 0x01, 0xd7 };

int main(void)
{
	struct enclave e = loaded();
	uint64_t words[3], value = 0;
	void *at = (void *)in(&e, AT_HOLES);

	memcpy(words, code, sizeof(words));
	CHECK(map_at(&e, AT_HOLES, PAGE, PROT_READ | PROT_WRITE), at);
	CHECK(ACCEPT(&e, 0, AT_HOLES, SECINFO_RW | SECINFO_PENDING), 0);
	for (uint64_t i = 0; i < 3; i++)
		poke(&e, AT_HOLES + 8 * i, words[i]);
	/* The mapping, the EPCM, nobody. */
	EXCEPTION(&e, 0, OP_JUMP, at, 0, &value, 14, 0x15, at);
	WORKS(mprotect(at, PAGE, RWX));
	CHECK(RESUME(&e, 0), 0);
	CHECK(run.exception_error_code, 0x8015);
	EXTEND(&e, 1, AT_HOLES, SECINFO_RW | SECINFO_X);
	RESUMES(&e, 0);
	CHECK(value, 42);
	/* Still data, too; and code without the right to write. */
	words[0] = (words[0] & ~0xff000000ul) | 43ul << 24;
	poke(&e, AT_HOLES, words[0]);
	CLEAN(&e, 0, OP_JUMP, at, 0, &value);
	CHECK(value, 43);
	WORKS(mprotect(at, PAGE, PROT_READ | PROT_EXEC));
	CLEAN(&e, 0, OP_JUMP, at, 0, &value);
	CHECK(value, 43);
	EXCEPTION(&e, 0, OP_WRITE, at, (words[0] & ~0xff000000ul) | 44ul << 24, 0, 14, 0x7, at);
	WORKS(mprotect(at, PAGE, RWX));
	RESUMES(&e, 0);
	CLEAN(&e, 0, OP_JUMP, at, 0, &value);
	CHECK(value, 44);
	/* A page of the image: its mapping may never have more. */
	EXTEND(&e, 0, AT_CONSTANT, SECINFO_RW);
	EXCEPTION(&e, 0, OP_WRITE, in(&e, AT_CONSTANT), 1, 0, 14, 0x7, in(&e, AT_CONSTANT));
	FAILS(EACCES, mprotect((void *)in(&e, AT_CONSTANT), PAGE, PROT_READ | PROT_WRITE));
	return success();
}
