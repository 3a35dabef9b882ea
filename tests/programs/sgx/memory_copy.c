/* SPDX-License-Identifier: Apache-2.0 */
/* EACCEPTCOPY: a new page with contents and permissions at once, also code; each time with what it has then. */
#include "sgx.h"

#define CODE (SECINFO_REG | SECINFO_R | SECINFO_X)
#define COPY(flags) leaf_of(&e, 1, EACCEPTCOPY, AT_HOLES, flags, in(&e, AT_DATA))

/* mov $42, (%r8); leave as the enclave does. */
static const unsigned char code[24] = { 0x49, 0xc7, 0x00, 42, 0, 0, 0, 0x48, 0x89, 0xcb, 0xb8, 4, 0, 0, 0, 0x0f, 0x01, 0xd7 };

int main(void)
{
	struct enclave e = loaded();
	struct sgx_enclave_modify_types told;
	struct sgx_enclave_remove_pages removed;
	uint64_t words[3], value = 0;
	void *at = (void *)in(&e, AT_HOLES);

	memcpy(words, code, sizeof(words));
	for (uint64_t i = 0; i < 3; i++)
		poke(&e, AT_DATA + 8 * i, words[i]);
	CHECK(map_at(&e, AT_HOLES, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), at);
	for (uint64_t i = 0; i < 5; i++) {
		poke(&e, AT_DATA, words[0] + (i << 24));
		CHECK(COPY(CODE), 0);
		/* It is code, and no data. */
		for (int again = 0; again < 3; again++)
			CLEAN(&e, 0, OP_JUMP, at, 0, &value);
		CHECK(value, 42 + i);
		CHECK(peek(&e, AT_HOLES), words[0] + (i << 24));
		EXCEPTION(&e, 0, OP_WRITE, at, 0, 0, 14, 0x8007, at);
		CLEAN(&e, 0, OP_FRAME_ADD, FRAME_RIP, 3, 0);
		RESUMES(&e, 0);
		/* Only once. */
		CHECK(COPY(CODE), ATTRIBUTES_MISMATCH);
		CHECK(sgx_modify(&e, AT_HOLES, PAGE, SECINFO_TRIM, &told), 0);
		EXCEPTION(&e, 0, OP_JUMP, at, 0, &value, 14, 0x8015, at);
		CHECK(ACCEPT(&e, 1, AT_HOLES, SECINFO_TRIM | SECINFO_MODIFIED), 0);
		WORKS(sgx_remove(&e, AT_HOLES, PAGE, &removed));
		/* The thread is back at its jump when there is code again. */
		CHECK(COPY(CODE), 0);
		RESUMES(&e, 0);
		CHECK(value, 42 + i);
		WORKS(sgx_modify(&e, AT_HOLES, PAGE, SECINFO_TRIM, &told));
		CHECK(ACCEPT(&e, 1, AT_HOLES, SECINFO_TRIM | SECINFO_MODIFIED), 0);
		WORKS(sgx_remove(&e, AT_HOLES, PAGE, &removed));
	}
	CHECK(COPY(SECINFO_RW), 0);
	CHECK(peek(&e, AT_HOLES), words[0] + (4ul << 24));
	poke(&e, AT_HOLES, 1);
	CHECK(peek(&e, AT_DATA), words[0] + (4ul << 24));
	return success();
}
