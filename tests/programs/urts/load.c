// SPDX-License-Identifier: Apache-2.0
/* Building the enclave by the driver's calls, and finding a function of the vDSO. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <asm/sgx.h>

#include "urts.h"

#define TYPE_TCS 1
#define ATTRIBUTE_DEBUG 2
#define TCS_FLAGS 8
#define DBGOPTIN 1

struct secs {
	uint64_t size, base;
	uint32_t ssaframesize, miscselect;
	uint8_t reserved[24];
	uint64_t attributes, xfrm;
	uint8_t rest[4032];
} __attribute__((aligned(4096)));

struct secinfo {
	uint64_t flags;
	uint8_t reserved[56];
} __attribute__((aligned(64)));

static void *read_file(const char *path)
{
	struct stat is;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *data;

	if (fd < 0 || fstat(fd, &is))
		fail("%s: %m", path);
	data = mmap(NULL, (size_t)is.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		fail("%s: %m", path);
	close(fd);
	return data;
}

/* The range, at a multiple of its size. */
static uint64_t reserve(int device, uint64_t size)
{
	uint8_t *at = mmap(NULL, 2 * size, PROT_NONE, MAP_SHARED, device, 0);
	uint64_t base;

	if (at == MAP_FAILED)
		fail("mmap: %m");
	base = ((uint64_t)at + size - 1) & ~(size - 1);
	if (base != (uint64_t)at)
		munmap(at, base - (uint64_t)at);
	munmap((void *)(base + size), (uint64_t)at + size - base);
	return base;
}

static void add(int device, struct enclave *enclave, const struct enclave_run *run, int *threads)
{
	struct secinfo secinfo = { .flags = run->secinfo_flags };
	const uint64_t length = run->pages * PAGE;
	uint8_t *source = aligned_alloc(PAGE, length);
	struct sgx_enclave_add_pages request = {
		.src = (uint64_t)source,
		.offset = run->offset,
		.length = length,
		.secinfo = (uint64_t)&secinfo,
		.flags = SGX_PAGE_MEASURE,
	};

	memcpy(source, run + 1, length);
	if (ioctl(device, SGX_IOC_ENCLAVE_ADD_PAGES, &request) || request.count != length)
		fail("ADD_PAGES at %#lx: %m", run->offset);
	free(source);
	if ((run->secinfo_flags >> 8 & 0xff) == TYPE_TCS && *threads < THREADS)
		enclave->tcs[(*threads)++] = enclave->base + run->offset;
}

static void protect(const struct enclave *enclave, const struct enclave_run *run)
{
	const bool is_tcs = (run->secinfo_flags >> 8 & 0xff) == TYPE_TCS;
	const int prot = is_tcs ? PROT_READ | PROT_WRITE : (int)run->secinfo_flags & 7;

	if (run->offset == enclave->closed)
		return;
	if (mprotect((void *)(enclave->base + run->offset), run->pages * PAGE, prot))
		fail("mprotect at %#lx: %m", run->offset);
}

void enclave_load(struct enclave *enclave, const char *path)
{
	static struct secs secs;
	const struct enclave_file *file = read_file(path);
	struct sgx_enclave_create create = { .src = (uint64_t)&secs };
	struct sgx_enclave_init init = { .sigstruct = (uint64_t)file->sigstruct };
	const struct enclave_run *run;
	int threads = 0;
	int device = open("/dev/sgx/enclave", O_RDWR | O_CLOEXEC);

	if (device < 0)
		device = open("/dev/sgx_enclave", O_RDWR | O_CLOEXEC);
	if (device < 0)
		fail("/dev/sgx_enclave: %m");
	if (file->magic != FILE_MAGIC)
		fail("%s is no enclave", path);
	*enclave = (struct enclave){
		.base = reserve(device, file->size),
		.size = file->size,
		.data = file->data,
		.constant = file->constant,
		.closed = file->closed,
		.debug = file->attributes & ATTRIBUTE_DEBUG,
	};
	secs = (struct secs){
		.size = file->size,
		.base = enclave->base,
		.ssaframesize = (uint32_t)file->ssaframesize,
		.miscselect = (uint32_t)file->miscselect,
		.attributes = file->attributes,
		.xfrm = file->xfrm,
	};
	if (ioctl(device, SGX_IOC_ENCLAVE_CREATE, &create))
		fail("CREATE: %m");
	run = (const struct enclave_run *)(file + 1);
	for (uint64_t i = 0; i < file->runs; i++) {
		add(device, enclave, run, &threads);
		run = (const struct enclave_run *)((const uint8_t *)(run + 1) + run->pages * PAGE);
	}
	if (threads != THREADS)
		fail("%s has %d threads", path, threads);
	if (ioctl(device, SGX_IOC_ENCLAVE_INIT, &init))
		fail("INIT: %m");
	run = (const struct enclave_run *)(file + 1);
	for (uint64_t i = 0; i < file->runs; i++) {
		protect(enclave, run);
		run = (const struct enclave_run *)((const uint8_t *)(run + 1) + run->pages * PAGE);
	}
	/* Behind "constant" there is a mapping, but no page; behind "data" there is nothing. */
	if (mprotect((void *)(enclave->base + enclave->constant + PAGE), PAGE, PROT_READ | PROT_WRITE))
		fail("mprotect: %m");
	if (munmap((void *)(enclave->base + enclave->data + PAGE), PAGE))
		fail("munmap: %m");
	close(device);
}

void enclave_unload(struct enclave *enclave)
{
	if (munmap((void *)enclave->base, enclave->size))
		fail("munmap: %m");
}

/* As a debugger would. False: the kernel does not write there. */
bool enclave_opt_in(const struct enclave *enclave)
{
	const uint64_t flags = DBGOPTIN;
	bool good = true;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	for (int i = 0; i < THREADS; i++)
		good = pwrite(fd, &flags, sizeof(flags), (off_t)(enclave->tcs[i] + TCS_FLAGS)) == sizeof(flags) && good;
	close(fd);
	return good;
}

void *find_vdso_function(const char *name)
{
	const uint8_t *image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(image + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	const Elf64_Sym *symbols = NULL;
	const char *names = NULL;
	const uint32_t *hash = NULL;
	const uint8_t *load = NULL;

	for (int i = 0; i < header->e_phnum; i++, segment++) {
		if (segment->p_type == PT_LOAD && !load)
			load = image + segment->p_offset - segment->p_vaddr;
		if (segment->p_type == PT_DYNAMIC)
			dynamic = (const Elf64_Dyn *)(image + segment->p_offset);
	}
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
		const uint8_t *at = load + dynamic->d_un.d_ptr;

		if (dynamic->d_tag == DT_SYMTAB)
			symbols = (const Elf64_Sym *)at;
		if (dynamic->d_tag == DT_STRTAB)
			names = (const char *)at;
		if (dynamic->d_tag == DT_HASH)
			hash = (const uint32_t *)at;
	}
	if (!hash || !symbols || !names)
		return NULL;
	for (uint32_t i = 0; i < hash[1]; i++)
		if (symbols[i].st_shndx != SHN_UNDEF && !strcmp(names + symbols[i].st_name, name))
			return (void *)(load + symbols[i].st_value);
	return NULL;
}
