/* The shortest enclave: it is entered and it exits. What remains of a call is EENTER and EEXIT themselves.
 *
 * With RDI not 0 it first writes a byte to each of RSI pages from RDI on: an enclave that has touched its memory.
 */
	.text
	.globl enclave_entry
	.hidden enclave_entry
	.type enclave_entry, @function
	.balign 16
enclave_entry:
	mov %rcx, %rbx
	test %rdi, %rdi
	jz 2f
1:	incb (%rdi)
	add $4096, %rdi
	dec %rsi
	jnz 1b
2:
	/* One aligned word of 8 bytes, as in runtime/entry.S. */
	.balign 8
	mov $4, %eax
	.byte 0x0f, 0x01, 0xd7			/* ENCLU */
	ud2
	.size enclave_entry, . - enclave_entry

	.section .note.GNU-stack, "", @progbits
