/* The computation of kernel.h. This object file is linked into the enclave and into kernel.so alike. */
#include "kernel.h"

#define TABLE 2048 /* words: 16 KiB, so that it stays in the first cache */

static uint64_t mix(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Steps until z -> z^2 + c leaves the circle of radius 2, at most 64. */
static uint32_t escape(double cr, double ci)
{
	double zr = 0, zi = 0;
	uint32_t step;

	for (step = 0; step < 64 && zr * zr + zi * zi <= 4.0; step++) {
		double next = zr * zr - zi * zi + cr;

		zi = 2 * zr * zi + ci;
		zr = next;
	}
	return step;
}

uint64_t compute_kernel(uint64_t rounds, uint64_t seed)
{
	uint64_t table[TABLE];
	uint64_t sum = 0;

	for (int i = 0; i < TABLE; i++)
		table[i] = mix(&seed);
	for (uint64_t round = 0; round < rounds; round++) {
		for (int i = 0; i < TABLE; i++) {
			uint64_t other = table[(table[i] ^ round) % TABLE];

			table[i] = ((table[i] << 7) | (table[i] >> 57)) + other;
			sum ^= table[i] * 0x2545f4914f6cdd1du;
		}
		sum += escape((double)(sum % 3000) / 1000.0 - 2.0, (double)(round % 2400) / 1000.0 - 1.2);
	}
	return sum;
}
