/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave is built by several processes, each from its own memory, and entered by one that did not build it. */
#include "sgx.h"

static struct enclave e;

/* The pieces with an odd or an even number. */
static void add(void *data)
{
	uint64_t i = *(uint64_t *)data;
	const struct piece *p = &enclave_pieces[i];
	char *copy = mmap(NULL, p->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(copy, enclave_image + p->offset, p->length);
	WORKS(sgx_add(e.fd, copy, p->offset, p->length, p->flags));
}

static void init(void *data)
{
	(void)data;
	WORKS(sgx_init(e.fd, enclave_sigstruct));
}

static void use(void *data)
{
	uint64_t sum = 0;

	(void)data;
	map_all(&e);
	CLEAN(&e, 0, OP_ADD, 40, 2, &sum);
	CHECK(sum, 42);
}

int main(void)
{
	e = created(0);
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		if (i < 4)
			CHECK(in_child(add, &i), 0);
		else
			add(&i);
	}
	CHECK(in_child(init, NULL), 0);
	FAILS(EINVAL, sgx_init(e.fd, enclave_sigstruct));
	CHECK(in_child(use, NULL), 0);
	use(NULL);
	return success();
}
