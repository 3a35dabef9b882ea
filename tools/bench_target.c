/* What a round trip costs an unmodified program: loads an enclave through /dev/sgx_enclave, and times loops.
 *
 *	bench_target ENCLAVE.sgxs ENCLAVE.sig vdso|raw COUNT NULL_CALLS SLICES [OFFSET PAGES]
 *	bench_target null NULL_CALLS SLICES
 *
 * In turn: COUNT round trips, and NULL_CALLS times getppid(2); SLICES times. Prints the median of each, in nanoseconds
 * for one. With OFFSET and PAGES the enclave touches its memory there first. The enclave is examples/bare.
 * The loader is the example's: examples/host.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "target.h"

#define SLICES_MAX 101

/* The calls make no exception, so all registers that C wants to keep are kept. */
static void by_vdso(uint64_t tcs, unsigned long count, uint64_t address, uint64_t pages)
{
	struct sgx_enclave_run run = { .tcs = tcs };

	while (count--) {
		int result = vdso_enter(address, pages, 0, EENTER, 0, 0, &run);

		if (result || run.function != EEXIT)
			die("vdso", "result %d, function %u, vector %u", result, run.function, run.exception_vector);
	}
}

/* An ENCLU of our own, which is its own AEP. The enclave leaves to the instruction behind it. */
static void by_enclu(uint64_t tcs, unsigned long count, uint64_t address, uint64_t pages)
{
	while (count--) {
		uint64_t leaf = EENTER, rbx = tcs, rdi = address, rsi = pages;

		__asm__ volatile("lea 1f(%%rip), %%rcx\n"
				 "1:	.byte 0x0f, 0x01, 0xd7\n"
				 : "+a"(leaf), "+b"(rbx), "+D"(rdi), "+S"(rsi)
				 :
				 : "rcx", "rdx", "r8", "r9", "r10", "r11", "cc", "memory");
		if (leaf != EEXIT)
			die("enclu", "leaf %lu", leaf);
	}
}

static void null_calls(unsigned long count)
{
	while (count--) {
		long result = SYS_getppid;

		__asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
	}
}

static int by_size(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

static double median(double *values, unsigned long count)
{
	qsort(values, count, sizeof(*values), by_size);
	return values[count / 2];
}

static void null_only(unsigned long nulls, unsigned long slices)
{
	double theirs[SLICES_MAX];

	for (unsigned long i = 0; i < slices; i++) {
		double start = now();

		null_calls(nulls);
		theirs[i] = (now() - start) / (double)nulls;
	}
	printf("%.3f\n", median(theirs, slices));
}

int main(int argc, char **argv)
{
	void (*round_trips)(uint64_t tcs, unsigned long count, uint64_t address, uint64_t pages);
	double ours[SLICES_MAX], theirs[SLICES_MAX];
	unsigned long count, nulls, slices;
	uint8_t sigstruct[SIGSTRUCT_SIZE];
	struct enclave enclave;
	struct file file;

	if (argc == 4 && !strcmp(argv[1], "null")) {
		null_only(strtoul(argv[2], NULL, 0), strtoul(argv[3], NULL, 0));
		return 0;
	}
	if (argc != 7 && argc != 9)
		die("usage", "see the head of bench_target.c");
	file = read_sgxs(argv[1]);
	read_whole(argv[2], sigstruct, sizeof(sigstruct));
	round_trips = strcmp(argv[3], "raw") ? by_vdso : by_enclu;
	count = strtoul(argv[4], NULL, 0);
	nulls = strtoul(argv[5], NULL, 0);
	slices = strtoul(argv[6], NULL, 0);
	if (slices > SLICES_MAX)
		die("usage", "at most %d slices", SLICES_MAX);
	enclave = load(&file, sigstruct, false);
	find_vdso();
	if (argc == 9)
		by_vdso(enclave.tcs, 1, enclave.base + strtoul(argv[7], NULL, 0), strtoul(argv[8], NULL, 0));
	round_trips(enclave.tcs, 3, 0, 0);
	for (unsigned long i = 0; i < slices; i++) {
		double start = now(), middle;

		round_trips(enclave.tcs, count, 0, 0);
		middle = now();
		null_calls(nulls);
		ours[i] = (middle - start) / (double)count;
		theirs[i] = (now() - middle) / (double)nulls;
	}
	printf("%.3f %.3f\n", median(ours, slices), median(theirs, slices));
	return 0;
}
