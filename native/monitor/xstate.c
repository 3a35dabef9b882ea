// SPDX-License-Identifier: Apache-2.0
/*
 * Extended state in the standard (not compacted) XSAVE format, under a mask.
 *
 * A signal frame and an SSA frame hold the same format at the same offsets, those of CPUID leaf 0DH: the
 * kernel writes the frame with XSAVE, hardware writes the SSA with XSAVE. So AEX and ERESUME in a handler are
 * copies. (SDM volume 1, "Managing State Using the XSAVE Feature Set".)
 */
#include "monitor.h"

#define FXSAVE_BYTES 464 /* 464..511 belong to software; the kernel keeps its magic there */
#define XSAVE_HEADER 512
#define FCW 0
#define FSW 2
#define MXCSR 24
#define MXCSR_MASK 28
#define REGISTERS 32
#define XMM 160

static uint64_t *header_of(uint8_t *image)
{
	return (uint64_t *)(image + XSAVE_HEADER);
}

/* Copy the components in mask. "available": those that "from" holds; others become INIT. */
void xstate_copy(uint8_t *to, const uint8_t *from, uint64_t mask, uint64_t available)
{
	uint64_t from_bv = *(const uint64_t *)(from + XSAVE_HEADER) & available;

	copy_bytes(to, from, FXSAVE_BYTES);
	*header_of(to) = (*header_of(to) & ~mask) | (from_bv & mask);
	for (uint32_t i = 2; i < 63; i++) {
		uint32_t offset = monitor_state.xstate[2 * i];
		uint32_t size = monitor_state.xstate[2 * i + 1];

		if (!(mask >> i & 1) || !size)
			continue;
		if (available >> i & 1)
			copy_bytes(to + offset, from + offset, size);
		else
			zero_bytes(to + offset, size);
	}
}

/* The synthetic extended state of an AEX (SDM, "Synthetic State on Asynchronous Enclave Exit"). */
void xstate_make_synthetic(uint8_t *frame, uint64_t xfrm, uint32_t vector)
{
	zero_bytes(frame, MXCSR);
	zero_bytes(frame + REGISTERS, FXSAVE_BYTES - REGISTERS);
	*(uint16_t *)(frame + FCW) = vector == VECTOR_MF ? 0x037e : 0x037f;
	*(uint16_t *)(frame + FSW) = vector == VECTOR_MF ? 0x8081 : 0;
	*(uint32_t *)(frame + MXCSR) = vector == VECTOR_XM ? 0x1f01 : 0x1fb0;
	/* x87 and SSE explicitly, so that FCW and MXCSR are taken from memory; the rest of XFRM is INIT. */
	*header_of(frame) = (*header_of(frame) & ~xfrm) | 3;
}

/* Whether XRSTOR with XCR0 = RFBM = XFRM would take the image (SDM volume 1, "Operation of XRSTOR"). */
bool xstate_loadable(const uint8_t *image, uint64_t xfrm)
{
	const uint64_t *header = (const uint64_t *)(image + XSAVE_HEADER);

	return !(header[0] & ~xfrm) && !header[1] && !header[2] &&
	       !(*(const uint32_t *)(image + MXCSR) & ~monitor_state.mxcsr_mask);
}

/* Bytes of an XSAVE area for the mask. */
uint32_t xstate_size(uint64_t mask)
{
	uint32_t end = XSAVE_HEADER + 64;

	for (uint32_t i = 2; i < 63; i++) {
		uint32_t offset = monitor_state.xstate[2 * i];
		uint32_t size = monitor_state.xstate[2 * i + 1];

		if (mask >> i & 1 && offset + size > end)
			end = offset + size;
	}
	return end;
}
