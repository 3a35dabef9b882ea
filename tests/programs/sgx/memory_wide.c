/* SPDX-License-Identifier: Apache-2.0 */
/* Mapped before the page was added, wider than the page allows: SIGBUS on any touch, until the mapping is narrower. */
#include "sgx.h"

static sigjmp_buf back;

static void bus(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	siglongjmp(back, 1);
}

static int touch(volatile char *at)
{
	if (sigsetjmp(back, 1))
		return seen.number;
	(void)*at;
	return 0;
}

int main(void)
{
	struct enclave e = created(0);
	volatile char *data = (char *)in(&e, AT_DATA), *constant = (char *)in(&e, AT_CONSTANT);
	uint64_t value = 0;

	handle(SIGBUS, bus, 0);
	handle(SIGSEGV, bus, 0);
	CHECK(map_at(&e, AT_CONSTANT, PAGE, PROT_READ | PROT_WRITE), constant);
	CHECK(map_at(&e, AT_DATA, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), data);
	/* Nothing is there yet. */
	CHECK(touch(data), SIGBUS);
	CHECK(seen.code, BUS_ADRERR);
	CHECK(seen.address, data);
	CHECK(seen.trapno, 14);
	add_all(e.fd);
	CHECK(touch(constant), SIGBUS);
	CHECK(touch(data), SIGBUS);
	WORKS(sgx_init(e.fd, enclave_sigstruct));
	CHECK(touch(constant), SIGBUS);
	CHECK(touch(data), SIGBUS);
	/* The rest of it, for entering. */
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];

		if (p->offset != AT_DATA && p->offset != AT_CONSTANT)
			WORKS(map_at(&e, p->offset, p->length,
				     p->flags & SECINFO_TCS ? PROT_READ | PROT_WRITE : (int)(p->flags & 7)));
	}
	EXCEPTION(&e, 0, OP_READ, constant, &value, 0, 14, 4, constant);
	WORKS(mprotect((void *)constant, PAGE, PROT_READ));
	RESUMES(&e, 0);
	CHECK(value, 0x0706050403020100);
	EXCEPTION(&e, 0, OP_WRITE, data, 5, 0, 14, 6, data);
	WORKS(mprotect((void *)data, PAGE, PROT_READ | PROT_WRITE));
	RESUMES(&e, 0);
	CHECK(peek(&e, AT_DATA), 5);
	CHECK(touch(data), 0);
	return success();
}
