/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs about security modules share. Each is run in a folder with the enclave's files, by the plain driver and
 * under a policy; its first argument says by which: "plain" or "policy".
 */
#ifndef POLICY_H
#define POLICY_H

#include "message.h"

#define CODE "code.bin"
#define SIGNATURE "enclave.sig"
#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)
#define RW (PROT_READ | PROT_WRITE)
#define RX (PROT_READ | PROT_EXEC)

static int policed __attribute__((unused));

/* Whether a word is among the arguments. */
static inline int has(char **argv, const char *word)
{
	for (; *argv; argv++)
		if (!strcmp(*argv, word))
			return 1;
	return 0;
}

static inline void begin(char **argv)
{
	policed = has(argv, "policy");
	CHECK(policed || has(argv, "plain"), 1);
}

/* What a policy refuses, and the plain driver does. */
static inline void refused(const char *file, int line, const char *what, long long found)
{
	if (policed)
		check_fails(file, line, what, found, EACCES);
	else
		check_works(file, line, what, found);
}

#define REFUSED(call) refused(__FILE__, __LINE__, #call, (long long)(call))

/* A file of the folder, mapped; its last page ends with zeros. */
static inline unsigned char *file_mapped(const char *name, int prot, int flags)
{
	int fd = (int)WORKS(open(name, flags == MAP_SHARED && prot & PROT_WRITE ? O_RDWR : O_RDONLY));
	struct stat status;
	unsigned char *at;

	WORKS(fstat(fd, &status));
	at = mmap(NULL, (size_t)status.st_size, prot, flags, fd, 0);
	CHECK(at == MAP_FAILED, 0);
	WORKS(close(fd));
	return at;
}

static inline unsigned char *anonymous(uint64_t length)
{
	unsigned char *at = mmap(NULL, length, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(at == MAP_FAILED, 0);
	return at;
}

/* All pieces out of an image, up to the first that is refused. */
static inline int add_image(int fd, const unsigned char *image)
{
	for (uint64_t i = 0; i < enclave_piece_count; i++) {
		const struct piece *p = &enclave_pieces[i];

		if (sgx_add(fd, image + p->offset, p->offset, p->length, p->flags))
			return -1;
	}
	return 0;
}

static inline uint64_t image_length(void)
{
	const struct piece *last = &enclave_pieces[enclave_piece_count - 1];

	return last->offset + last->length;
}

/* Without measurement. */
static inline int add_unmeasured(int fd, const void *src, uint64_t offset, uint64_t length, uint64_t flags)
{
	struct secinfo secinfo;
	struct sgx_enclave_add_pages add;

	memset(&secinfo, 0, sizeof(secinfo));
	secinfo.flags = flags;
	memset(&add, 0, sizeof(add));
	add.src = (uintptr_t)src;
	add.offset = offset;
	add.length = length;
	add.secinfo = (uintptr_t)&secinfo;
	return ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &add);
}

/* An enclave of the approved file's pages, not yet initialised. */
static inline struct enclave approved(void)
{
	struct enclave e = created(0);

	WORKS(add_image(e.fd, file_mapped(CODE, PROT_READ, MAP_PRIVATE)));
	return e;
}

/* The same with the pages that may be all at once, initialised, with nothing mapped. */
static inline struct enclave loose(void)
{
	struct enclave e = approved();

	WORKS(sgx_add(e.fd, file_mapped("zeros.bin", PROT_READ, MAP_PRIVATE), AT_LOOSE, LOOSE_LENGTH, SECINFO_RW | SECINFO_X));
	WORKS(sgx_init(e.fd, file_mapped("loose.sig", PROT_READ, MAP_PRIVATE)));
	return e;
}

/* mmap as a system call gives it: 0, or -1 with errno. */
static inline int map(const struct enclave *e, uint64_t offset, uint64_t length, int prot)
{
	return map_at(e, offset, length, prot) == MAP_FAILED ? -1 : 0;
}

static inline int protect(const struct enclave *e, uint64_t offset, uint64_t length, int prot)
{
	return mprotect((void *)in(e, offset), length, prot);
}

static inline int unmap(const struct enclave *e, uint64_t offset, uint64_t length)
{
	return munmap((void *)in(e, offset), length);
}

/* It can be entered, and works. */
static inline __attribute__((always_inline)) void use(const struct enclave *e)
{
	uint64_t sum = 0;

	CLEAN(e, 0, OP_ADD, 40, 2, &sum);
	CHECK(sum, 42);
	poke(e, AT_DATA, 7);
	CHECK(peek(e, AT_DATA), 7);
}

#endif
