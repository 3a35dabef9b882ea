/* SPDX-License-Identifier: Apache-2.0 */
/* What the enclave and its host agree on; read by the assembler, too. */
#ifndef URTS_PROTOCOL_H
#define URTS_PROTOCOL_H

/* RDI at EENTER; RSI is its argument. */
#define COMMAND_CALL 1 /* struct call */
#define COMMAND_RETURN 2 /* from an ocall, with its result */
#define COMMAND_EXCEPTION 3 /* CSSA above 0: repair the frame below */
#define COMMAND_PROBE 4 /* at any CSSA: RSI comes back with it */
#define COMMAND_READ 5 /* COUNTERS words are stored at RSI */

/* RDI at EEXIT. */
#define LEFT_DONE 0
#define LEFT_OCALL 1 /* function in RSI, argument in RDX */
#define LEFT_WRONG 2 /* RSI: where in the enclave it went wrong */

#define OCALL_MIX 7

/* struct call: offsets, and what can be asked. */
#define CALL_OP 0
#define CALL_A 8
#define CALL_B 16
#define CALL_RESULT 24

#define OP_ADD 0
#define OP_SPIN 1
#define OP_OCALL 2
#define OP_DIVIDE 3 /* #DE; the repair sets a register, the instruction is tried again */
#define OP_ILLEGAL 4 /* #UD; the repair lets the thread go on in a second handler, which makes an ocall of its own */
#define OP_PROTECTION 5 /* #GP; like those below: the repair sets a register and steps over it */
#define OP_UNMAPPED 6 /* #PF: no mapping there */
#define OP_NO_ACCESS 7 /* #PF: a mapping without permission */
#define OP_ABSENT 8 /* #PF: mapped, but no page was ever added; one appears, and waits for its EACCEPT; SIGSEGV */
#define OP_CONSTANT 9 /* #PF: a store to a page that can be read */
#define OP_FETCH 10 /* #PF: a call into data */
#define OP_BREAK 11 /* INT3: #UD, or #BP where the TCS has opted in to debugging */
#define OP_FLOAT 12 /* #XM; the repair changes MXCSR in the frame */
#define OP_DEEP 13 /* #UD, and another one in its repair */
#define OPS 14

/* What COMMAND_READ stores, in words. */
#define COUNTER_CHECKSUM 0
#define COUNTER_CALLS 1
#define COUNTER_EXCEPTIONS 2
#define COUNTER_RETURNS 3
#define COUNTER_SECOND 4
#define COUNTER_PROBES 5
#define COUNTER_OPS 6
#define COUNTERS 20 /* COUNTER_OPS + OPS */

#endif
