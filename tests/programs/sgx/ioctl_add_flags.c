/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES: only the lowest flag means anything, and what it means is in the measurement. */
#include "sgx.h"

static int init_with(uint64_t flags)
{
	struct enclave e = created(0);

	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];
		struct secinfo secinfo = { .flags = p->flags };
		struct sgx_enclave_add_pages add = { (uintptr_t)enclave_image + p->offset, p->offset, p->length,
						     (uintptr_t)&secinfo, flags, ~0ul };

		WORKS(ioctl(e.fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add));
		CHECK(add.count, p->length);
		CHECK(add.flags, flags);
	}
	return sgx_init(e.fd, enclave_sigstruct);
}

int main(void)
{
	WORKS(init_with(1));
	WORKS(init_with(~0ul));
	WORKS(init_with(1ul << 63 | 1));
	FAILS(EPERM, init_with(0));
	FAILS(EPERM, init_with(~1ul));
	return success();
}
