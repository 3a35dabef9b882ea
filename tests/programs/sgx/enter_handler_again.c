/* SPDX-License-Identifier: Apache-2.0 */
/* A user handler that goes on: by ERESUME after a page fault that it mends, by EENTER for calls one after the other. */
#include "sgx.h"

static struct enclave e;
static int faults, exits;

static int mend(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct sgx_enclave_run *r)
{
	(void)rdi, (void)rsi, (void)rsp, (void)r8, (void)r9;
	if (r->function == EEXIT)
		return exits++, 0;
	CHECK(r->exception_vector, 14);
	CHECK(r->exception_addr, rdx);
	faults++;
	WORKS(mprotect((void *)rdx, PAGE, PROT_READ | PROT_WRITE));
	return ERESUME;
}

/* Adds 1 to "total" by OP_ADD, "left" times. */
uint64_t total, left;
int more(long rdi, long rsi, long rdx, long rsp, long r8, long r9, struct sgx_enclave_run *r);
__asm__("	.text\n"
	"more:	xor	%eax, %eax\n"
	"	subq	$1, left(%rip)\n"
	"	jc	1f\n"
	"	mov	$1, %edi\n"
	"	mov	total(%rip), %rsi\n"
	"	mov	$1, %edx\n"
	"	lea	total(%rip), %r8\n"
	"	mov	$2, %eax\n"
	"1:	ret\n");

int main(void)
{
	e = loaded();
	WORKS(mprotect((void *)in(&e, AT_DATA), 2 * PAGE, PROT_NONE));
	run.user_handler = (uintptr_t)mend;
	CHECK(ENTER(&e, 0, OP_WRITE, in(&e, AT_DATA), 5, 0), 0);
	CHECK(run.function, EEXIT);
	CHECK(faults, 1);
	CHECK(exits, 1);
	CHECK(ENTER(&e, 0, OP_WRITE, in(&e, AT_DATA + PAGE), 6, 0), 0);
	CHECK(faults, 2);
	CHECK(exits, 2);
	left = 50;
	run.user_handler = (uintptr_t)more;
	CHECK(ENTER(&e, 0, OP_NOP, 0, 0, 0), 0);
	CHECK(run.function, EEXIT);
	CHECK(total, 50);
	run.user_handler = 0;
	CHECK(peek(&e, AT_DATA), 5);
	CHECK(peek(&e, AT_DATA + PAGE), 6);
	return success();
}
