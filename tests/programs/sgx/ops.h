/* SPDX-License-Identifier: Apache-2.0 */
/* What the enclave does for each value of RDI at its entry; A, B and C are RSI, RDX and R8. For C and for assembly. */
#define OP_NOP 0	/* leaves at once */
#define OP_ADD 1	/* *C = A + B */
#define OP_READ 2	/* *B = *A, 8 bytes */
#define OP_WRITE 3	/* *A = B, 8 bytes */
#define OP_UD2 4	/* 2 bytes */
#define OP_DIVIDE 5	/* by zero, an instruction of 3 bytes */
#define OP_HALT 6	/* HLT, 1 byte: #GP */
#define OP_INT3 7	/* 1 byte */
#define OP_SYSCALL 8	/* 2 bytes, getpid */
#define OP_JUMP 9	/* to A */
#define OP_SPIN 10	/* *B = 1 (32 bits), waits for *A (32 bits) to be not 0, then adds 1 to *C */
#define OP_REGISTERS 11 /* as OP_SPIN with a value in each register, XMM0 and 15; *C = 1 if none has changed, else 2 */
#define OP_FRAME_GET 12 /* *B = the 8 bytes at A of the first SSA frame's GPR area */
#define OP_FRAME_ADD 13 /* adds B to them */
#define OP_CSSA 14	/* *B = RAX at the entry */
#define OP_SIMD 15	/* divides by zero with all exceptions of SSE unmasked */
#define OP_EXIT_TO 16	/* leaves to A */
#define OP_ENCLU 17	/* ENCLU with the leaf A, 3 bytes */
#define OP_PUSH 18	/* pushes A twice to the stack, and leaves so */
#define OP_STEP 19	/* *B += 1 (64 bits) again and again until *A (32 bits) is not 0 */
#define OP_LEAF 20	/* ENCLU with the leaf B and the struct leaf at A, all status flags set before */
#define OP_GROW 21	/* EACCEPT of A and the B - 1 pages behind it, RW, that appear by it; *C = how many it refused */
#define OP_SWEEP 22	/* adds 1 to the 8 bytes at A, and at the same place of the B - 1 pages behind it */
#define OP_COUNT 23

/* Offsets in the GPR area of an SSA frame. */
#define FRAME_RIP 136
#define FRAME_EXITINFO 160

/* Offsets in struct leaf (sgx.h). */
#define LEAF_FLAGS 0
#define LEAF_PAGE 8
#define LEAF_SOURCE 16
#define LEAF_SECINFO 24
#define LEAF_RAX 32
#define LEAF_RFLAGS 40
