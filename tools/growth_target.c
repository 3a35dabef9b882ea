/* An unmodified program with one enclave or many: what growth_table.py measures under `swsgx run`.
 *
 *	growth_target ENCLAVE.sgxs ENCLAVE.sig COUNT SIZE
 *
 * Loads and enters one enclave, so that what is there once is there, and prints its process and its parent. At a line on
 * its input it loads COUNT more, enters each, and prints nanoseconds of the one and of the other. It ends at the end of
 * its input. The enclave is examples/bare in a range of SIZE bytes; the loader is the example's: examples/host.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "target.h"

static void enter_once(const struct enclave *enclave)
{
	struct sgx_enclave_run run = { .tcs = enclave->tcs };
	int result = vdso_enter(0, 0, 0, EENTER, 0, 0, &run);

	if (result || run.function != EEXIT)
		die("enter", "result %d, function %u, vector %u", result, run.function, run.exception_vector);
}

int main(int argc, char **argv)
{
	uint8_t sigstruct[SIGSTRUCT_SIZE];
	struct enclave first, *enclaves;
	double start, loaded, entered;
	unsigned long count;
	struct file file;

	if (argc != 5)
		die("usage", "see the head of growth_target.c");
	file = read_sgxs(argv[1]);
	read_whole(argv[2], sigstruct, sizeof(sigstruct));
	file.size = strtoul(argv[4], NULL, 0);
	count = strtoul(argv[3], NULL, 0);
	enclaves = calloc(count, sizeof(*enclaves));
	if (!enclaves)
		die("start", "out of memory");
	find_vdso();
	first = load(&file, sigstruct, false);
	enter_once(&first);
	printf("%d %d\n", getpid(), getppid());
	fflush(stdout);
	getchar();
	start = now();
	for (unsigned long i = 0; i < count; i++)
		enclaves[i] = load(&file, sigstruct, false);
	loaded = now();
	for (unsigned long i = 0; i < count; i++)
		enter_once(&enclaves[i]);
	entered = now();
	printf("%.0f %.0f\n", loaded - start, entered - loaded);
	fflush(stdout);
	getchar();
	return 0;
}
