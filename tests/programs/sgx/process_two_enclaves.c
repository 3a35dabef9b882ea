/* SPDX-License-Identifier: Apache-2.0 */
/* Two enclaves in one program; each has memory of its own, and the handler of one's fault enters the other. */
#include "sgx.h"

static struct enclave one, other;

static void handler(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	CHECK(RAW(&other, 0, OP_WRITE, in(&other, AT_DATA), 5, 0), EEXIT);
	WORKS(mprotect((void *)in(&one, AT_DATA), PAGE, PROT_READ | PROT_WRITE));
}

int main(void)
{
	one = loaded();
	other = loaded();
	poke(&one, AT_DATA, 1);
	poke(&other, AT_DATA, 2);
	CHECK(peek(&one, AT_DATA), 1);
	CHECK(peek(&other, AT_DATA), 2);
	handle(SIGSEGV, handler, 0);
	WORKS(mprotect((void *)in(&one, AT_DATA), PAGE, PROT_READ));
	CHECK(RAW(&one, 0, OP_WRITE, in(&one, AT_DATA), 9, 0), EEXIT);
	CHECK(seen.count, 1);
	CHECK(peek(&one, AT_DATA), 9);
	CHECK(peek(&other, AT_DATA), 5);
	WORKS(close(other.fd));
	WORKS(munmap((void *)other.base, ENCLAVE_SIZE));
	CHECK(peek(&one, AT_DATA), 9);
	CHECK(ENTER(&other, 0, OP_NOP, 0, 0, 0), 0);
	CHECK(run.exception_vector, 14);
	return success();
}
