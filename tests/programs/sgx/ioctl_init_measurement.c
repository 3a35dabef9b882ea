/* SPDX-License-Identifier: Apache-2.0 */
/* INIT of another enclave than the signed one is EPERM; what a failed INIT lacked can still be added. */
#include "sgx.h"

int main(void)
{
	struct enclave e = created(0), more = built(0), other = created(0);
	static unsigned char changed[PAGE] __attribute__((aligned(PAGE)));
	const struct piece *first = &enclave_pieces[0];

	/* Not all of it, then all of it. */
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];

		FAILS(EPERM, sgx_init(e.fd, enclave_sigstruct));
		WORKS(sgx_add(e.fd, enclave_image + p->offset, p->offset, p->length, p->flags));
	}
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	/* More than that. */
	WORKS(sgx_add(more.fd, changed, ENCLAVE_SIZE - PAGE, PAGE, SECINFO_REG));
	FAILS(EPERM, sgx_init(more.fd, enclave_sigstruct));
	/* One byte is another. */
	memcpy(changed, enclave_image, PAGE);
	changed[PAGE - 1] ^= 1;
	CHECK(first->length, PAGE);
	WORKS(sgx_add(other.fd, changed, 0, PAGE, first->flags));
	for (uint64_t i = 1; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];

		WORKS(sgx_add(other.fd, enclave_image + p->offset, p->offset, p->length, p->flags));
	}
	FAILS(EPERM, sgx_init(other.fd, enclave_sigstruct));
	return success();
}
