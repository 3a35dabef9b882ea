// SPDX-License-Identifier: Apache-2.0
/*
 * Prints what the kernel selftest's own code makes of its test enclave, on a machine without SGX.
 *
 * Compiled together with the selftest's load.c and sigstruct.c, which stay in the cache. load.c opens and probes
 * /dev/sgx_enclave before it reads the file; open() and stat() of that one path are wrapped by the linker, and an
 * ordinary memory file takes the device's place. No ioctl is made.
 *
 * Usage: measure TEST_ENCL_ELF SIGSTRUCT_OUT
 * Prints lines "mrenclave HEX", "size HEX" and, for each segment, "segment OFFSET SIZE FLAGS measured|unmeasured".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include "defines.h"
#include "main.h"

static const char device[] = "/dev/sgx_enclave";

int __real_open(const char *path, int flags, ...);
int __real_stat(const char *path, struct stat *st);

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if (!strcmp(path, device))
		return memfd_create("no-device", MFD_CLOEXEC);
	if (flags & O_CREAT) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return __real_open(path, flags, mode);
}

int __wrap_stat(const char *path, struct stat *st)
{
	if (!strcmp(path, device)) {
		memset(st, 0, sizeof(*st));
		return 0;
	}
	return __real_stat(path, st);
}

static bool write_file(const char *path, const void *data, size_t size)
{
	FILE *out = fopen(path, "wb");
	bool done;

	if (!out)
		return false;
	done = fwrite(data, 1, size, out) == size;
	return fclose(out) == 0 && done;
}

int main(int argc, char **argv)
{
	struct encl encl;
	unsigned int i;

	if (argc != 3) {
		fprintf(stderr, "usage: %s TEST_ENCL_ELF SIGSTRUCT_OUT\n", argv[0]);
		return 2;
	}
	if (!encl_load(argv[1], &encl, ENCL_HEAP_SIZE_DEFAULT) || !encl_measure(&encl)) {
		fprintf(stderr, "%s: the selftest's code cannot measure it\n", argv[1]);
		return 1;
	}
	printf("mrenclave ");
	for (i = 0; i < sizeof(encl.sigstruct.body.mrenclave); i++)
		printf("%02x", encl.sigstruct.body.mrenclave[i]);
	printf("\nsize %zx\n", encl.encl_size);
	for (i = 0; i < encl.nr_segments; i++) {
		const struct encl_segment *seg = &encl.segment_tbl[i];

		printf("segment %lx %zx %x %s\n", (unsigned long)seg->offset, seg->size, seg->flags,
		       seg->measure ? "measured" : "unmeasured");
	}
	if (!write_file(argv[2], &encl.sigstruct, sizeof(encl.sigstruct))) {
		perror(argv[2]);
		return 1;
	}
	encl_delete(&encl);
	return 0;
}
