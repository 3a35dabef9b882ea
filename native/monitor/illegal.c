// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions that raise #UD inside an enclave (SDM, "Illegal Instructions"), but that outside of one end as #GP:
 * the host tells SIGSEGV with trap 13, the enclave must see #UD.
 *
 * Only what has already faulted comes here. What the host executes without a fault (MOV to DS, a far return to the
 * same segment, SGDT where the kernel emulates it, CPUID) is not seen; docs/coverage.md has the list.
 */
#include "monitor.h"

/* Up to 15 bytes of the instruction at RIP, as far as its page goes; the rest is 0x90, which is none of these. */
static void fetch(const registers_t *regs, uint8_t *code)
{
	uint64_t room = PAGE_BYTES - (regs->rip & (PAGE_BYTES - 1));

	for (uint64_t i = 0; i < 15; i++)
		code[i] = i < room ? ((const volatile uint8_t *)regs->rip)[i] : 0x90;
}

static bool is_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x66:
	case 0x67:
	case 0xf2:
	case 0xf3:
		return true;
	default:
		return false;
	}
}

static bool two_bytes(uint8_t opcode, uint8_t modrm)
{
	uint8_t reg = modrm >> 3 & 7;

	switch (opcode) {
	case 0x00: /* SLDT, STR */
		return reg <= 1;
	case 0x01: /* SGDT, SIDT, SMSW; VMCALL, VMFUNC */
		return modrm < 0xc0 ? reg <= 1 || reg == 4 : modrm == 0xc1 || modrm == 0xd4 || reg == 4;
	case 0x05: /* SYSCALL */
	case 0x33: /* RDPMC */
	case 0x34: /* SYSENTER */
	case 0x37: /* GETSEC */
	case 0xa1: /* POP FS */
	case 0xa2: /* CPUID, where the host can make it fault */
	case 0xa9: /* POP GS */
	case 0xb2: /* LSS */
	case 0xb4: /* LFS */
	case 0xb5: /* LGS */
		return true;
	default:
		return false;
	}
}

bool illegal_inside(const registers_t *regs)
{
	uint8_t code[16] = { 0 };
	uint32_t at = 0;
	uint8_t modrm;

	fetch(regs, code);
	while (at < 13 && is_prefix(code[at]))
		at++;
	if ((code[at] & 0xf0) == 0x40) /* REX */
		at++;
	modrm = code[at + 1];
	switch (code[at]) {
	case 0x0f:
		return two_bytes(code[at + 1], code[at + 2]);
	case 0x6c ... 0x6f: /* INS, OUTS */
	case 0xe4 ... 0xe7: /* IN, OUT */
	case 0xec ... 0xef:
	case 0xca: /* far RET */
	case 0xcb:
	case 0xcd: /* INT n */
	case 0xcf: /* IRET */
	case 0x8e: /* MOV to a segment register */
		return true;
	case 0xff: /* far CALL, far JMP */
		return (modrm >> 3 & 7) == 3 || (modrm >> 3 & 7) == 5;
	default:
		return false;
	}
}
