/* SPDX-License-Identifier: Apache-2.0 */
/* SIGBUS inside: a mapping wider than its page, made before the page was; and a file that is too short, outside. */
#include "sgx.h"

static struct enclave e;
static int file;

static void mend(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	if (seen.address - e.base < ENCLAVE_SIZE)
		WORKS(mprotect((void *)seen.address, PAGE, PROT_READ));
	else
		WORKS(ftruncate(file, PAGE));
}

int main(void)
{
	uint64_t value = 0, *mapped;

	e = created(0);
	WORKS(map_at(&e, AT_CONSTANT, PAGE, PROT_READ | PROT_WRITE));
	add_all(e.fd);
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];

		if (p->offset != AT_CONSTANT)
			WORKS(map_at(&e, p->offset, p->length,
				     p->flags & SECINFO_TCS ? PROT_READ | PROT_WRITE : (int)(p->flags & 7)));
	}
	handle(SIGBUS, mend, 0);
	CHECK(RAW(&e, 0, OP_READ, in(&e, AT_CONSTANT) + 8, &value, 0), EEXIT);
	CHECK(value, 0x0f0e0d0c0b0a0908);
	CHECK(seen.count, 1);
	CHECK(seen.code, BUS_ADRERR);
	CHECK(seen.address, in(&e, AT_CONSTANT));
	CHECK(seen.rip, raw_enclu);
	CHECK(seen.rax, ERESUME);
	file = memfd_create("short", 0);
	mapped = (uint64_t *)WORKS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0));
	CHECK(RAW(&e, 0, OP_READ, mapped, &value, 0), EEXIT);
	CHECK(value, 0);
	CHECK(seen.count, 2);
	CHECK(seen.address, mapped);
	CHECK(seen.trapno, 14);
	return success();
}
