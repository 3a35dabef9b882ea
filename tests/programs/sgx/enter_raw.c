/* SPDX-License-Identifier: Apache-2.0 */
/* A program's own ENCLU, that is its own AEP, enters as the vDSO's does; registers pass in both directions. */
#include "sgx.h"

int main(void)
{
	struct enclave e = loaded();
	uint64_t sum = 0;

	for (int thread = 0; thread < (int)ENCLAVE_THREADS; thread++)
		for (uint64_t i = 0; i < 200; i++) {
			CHECK(RAW(&e, thread, OP_ADD, i, 5, &sum), EEXIT);
			CHECK(sum, i + 5);
		}
	uint64_t rax = EENTER, rbx = tcs_of(&e, 0), rcx, rdi = OP_ADD, rsi = 40, rdx = 2;
	register uint64_t r8 __asm__("r8") = (uintptr_t)&sum;
	register uint64_t r9 __asm__("r9") = 99;
	register uint64_t r12 __asm__("r12") = 12;

	__asm__ volatile("lea 1f(%%rip), %%rcx\n"
			 "1: .byte 0x0f, 0x01, 0xd7"
			 : "+a"(rax), "+b"(rbx), "=c"(rcx), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r8), "+r"(r9), "+r"(r12)
			 :
			 : "memory", "cc", "r10", "r11", "r13", "r14", "r15");
	/* Before anything is called: calls take these registers. */
	uint64_t after[] = { r8, r9, r12 };

	CHECK(rax, EEXIT);
	CHECK(rdi, OP_ADD);
	CHECK(rsi, 42);
	CHECK(rdx, 2);
	CHECK(after[0], &sum);
	CHECK(after[1], 99);
	CHECK(after[2], 12);
	/* RBX: where it went; RCX: the AEP, which is 3 bytes before. */
	CHECK(rcx, rbx - 3);
	CHECK(sum, 42);
	return success();
}
