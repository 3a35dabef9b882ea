// SPDX-License-Identifier: Apache-2.0
/* What the enclave should say, computed without it. */
#include "urts.h"

uint64_t mixed(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ul;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul;
	x = (x ^ x >> 27) * 0x94d049bb133111ebul;
	return x ^ x >> 31;
}

uint64_t next(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ul;
	return mixed(*state);
}

static uint64_t rotated(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static uint64_t spun(uint64_t a, uint64_t b)
{
	uint64_t x[16] = { a, 0, ~a, a, 0, 0, 1, 2, 3, 5, 7, 11, 13, 17, 19, 23 };
	uint64_t low = a, high = ~a, low15 = ~a, high15 = a; /* XMM0 and XMM15 */

	for (uint64_t i = b & 0xfff; i; i--) {
		x[0] = rotated(x[0], 5) + i;
		x[3] ^= x[0];
		x[2] = rotated(x[2] + x[3], 11);
		x[6] ^= x[2];
		x[7] += x[6];
		x[8] ^= x[7];
		x[9] = rotated(x[9] + x[8], 3);
		x[10] ^= x[9];
		x[11] += x[10];
		x[12] ^= x[11];
		x[13] += x[12];
		x[14] ^= x[13];
		x[15] += x[14];
		low += low15;
		high += high15;
		low15 ^= low;
		high15 ^= high;
	}
	x[0] = (x[0] ^ x[3]) + x[2];
	for (int i = 6; i < 16; i += 2)
		x[0] = (x[0] ^ x[i]) + x[i + 1];
	x[0] = (x[0] ^ low) + low15;
	return x[0] ^ high15;
}

/* The result of a call; the counters, but for those of COMMAND_PROBE, as they are behind it. */
uint64_t expected(uint64_t *count, uint64_t op, uint64_t a, uint64_t b)
{
	const uint64_t infinity = 0x7fful << 52;
	uint64_t value = 5 * a + 3 + b;

	count[COUNTER_CALLS]++;
	count[COUNTER_OPS + op]++;
	count[COUNTER_EXCEPTIONS] += op == OP_DEEP ? 2 : op >= OP_DIVIDE;
	switch (op) {
	case OP_ADD:
		value = a + b;
		break;
	case OP_SPIN:
		value = spun(a, b);
		break;
	case OP_OCALL:
		value = mixed(a) + b;
		count[COUNTER_RETURNS]++;
		break;
	case OP_DIVIDE:
		value = a / (b | 1) + a % (b | 1);
		break;
	case OP_ILLEGAL:
		value = 3 * a + 1;
		count[COUNTER_SECOND]++;
		if (b & 1) {
			value += mixed(value);
			count[COUNTER_RETURNS]++;
		}
		break;
	case OP_FLOAT:
		value = (a >> 1 | 1) + infinity;
		break;
	default:
		break;
	}
	count[COUNTER_CHECKSUM] = (rotated(count[COUNTER_CHECKSUM], 7) ^ value) + 0x5bd1e995;
	return value;
}
