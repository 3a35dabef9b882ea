/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of 2019 (series v23): its nodes, its ADD_PAGES, which moves on in the structure; reserved by PROT_NONE. */
#include "sgx.h"

struct add_pages_v23 {
	uint64_t src, offset, length, secinfo;
	uint32_t flags, reserved;
};

#define ADD_PAGES_V23 _IOWR(0xa4, 1, struct add_pages_v23)

int main(void)
{
	struct enclave e = { (int)WORKS(open("/dev/sgx/enclave", O_RDWR)), 0 };
	int provision = (int)WORKS(open("/dev/sgx/provision", O_RDONLY));
	uint64_t start = (uint64_t)WORKS(mmap(NULL, 2 * ENCLAVE_SIZE, PROT_NONE, MAP_SHARED, e.fd, 0)), sum = 0;
	struct secs secs;

	CHECK(ADD_PAGES_V23, 0xc028a401);
	e.base = (start + ENCLAVE_SIZE - 1) & ~(ENCLAVE_SIZE - 1);
	secs = a_secs(e.base, ENCLAVE_SIZE);
	WORKS(sgx_create(e.fd, &secs));
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];
		struct secinfo secinfo = { .flags = p->flags };
		uint64_t src = (uintptr_t)enclave_image + p->offset;
		struct add_pages_v23 add = { src, p->offset, p->length, (uintptr_t)&secinfo, 1, 0 };

		WORKS(ioctl(e.fd, ADD_PAGES_V23, &add));
		CHECK(add.src, src + p->length);
		CHECK(add.offset, p->offset + p->length);
		CHECK(add.length, 0);
	}
	WORKS(sgx_provision(e.fd, (uint64_t)provision));
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	map_all(&e);
	WORKS(close(e.fd));
	CHECK(RAW(&e, 0, OP_ADD, 40, 2, &sum), EEXIT);
	CHECK(sum, 42);
	return success();
}
