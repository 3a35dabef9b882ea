/* Builds an enclave with the driver's ioctls, and maps it: what each SGX runtime does, and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host.h"

#define DEVICE "/dev/sgx_enclave"
#define ATTRIBUTE_DEBUG 2ul

/* SDM, "SGX Enclave Control Structure (SECS)". */
struct secs {
	uint64_t size, base;
	uint32_t ssaframesize, miscselect;
	uint8_t reserved[24];
	uint64_t attributes, xfrm;
	uint8_t rest[4032];
} __attribute__((aligned(4096)));
_Static_assert(sizeof(struct secs) == PAGE, "SECS is a page");

struct secinfo {
	uint64_t flags;
	uint8_t reserved[56];
} __attribute__((aligned(64)));

/* Fields of SIGSTRUCT: what the signer wants to be in SECS. */
#define SIGSTRUCT_MISCSELECT 900
#define SIGSTRUCT_ATTRIBUTES 928
#define SIGSTRUCT_XFRM 936

static uint64_t field(const uint8_t *sigstruct, size_t at, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, sigstruct + at, size);
	return value;
}

/* An enclave's range begins at a multiple of its size. */
static uint64_t reserve(uint64_t size)
{
	uint8_t *area = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *base = (uint8_t *)(((uintptr_t)area + size - 1) & ~(size - 1));

	if (area == MAP_FAILED)
		die("create", "no address space for %lu bytes: %m", size);
	if (base != area)
		munmap(area, base - area);
	munmap(base + size, area + size - base);
	return (uintptr_t)base;
}

/* How many pages from this one on can be added at once. */
static size_t alike(const struct file *file, size_t first)
{
	const struct page *pages = file->pages;
	size_t next = first + 1;

	while (next < file->count && pages[next].offset == pages[next - 1].offset + PAGE &&
	       pages[next].flags == pages[first].flags && pages[next].measured == pages[first].measured)
		next++;
	return next - first;
}

static int add(int fd, const struct file *file, const struct page *page, size_t count)
{
	struct secinfo secinfo = { .flags = page->flags };
	struct sgx_enclave_add_pages pages = { .secinfo = (uintptr_t)&secinfo,
					       .flags = page->measured ? SGX_PAGE_MEASURE : 0 };

	/* A signal may end the call early: "count" says how far it came. */
	for (uint64_t done = 0; done < count * PAGE; done += pages.count) {
		pages.src = (uintptr_t)file->bytes + page->offset + done;
		pages.offset = page->offset + done;
		pages.length = count * PAGE - done;
		if (ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &pages) && errno != EINTR)
			return -1;
	}
	return 0;
}

static void map(const struct enclave *enclave, const struct page *page, size_t count)
{
	bool tcs = (page->flags & SECINFO_TYPE) == SECINFO_TCS;
	int prot = tcs ? PROT_READ | PROT_WRITE : (int)(page->flags & SECINFO_PERMISSIONS);

	if (prot && mmap((void *)(enclave->base + page->offset), count * PAGE, prot, MAP_SHARED | MAP_FIXED,
			 enclave->fd, 0) == MAP_FAILED)
		die("map", "%zu pages at %#lx: %m", count, page->offset);
}

struct enclave load(const struct file *file, const uint8_t *sigstruct, bool debug)
{
	struct enclave enclave = { .fd = open(DEVICE, O_RDWR | O_CLOEXEC), .size = file->size };
	struct secs secs = { .size = file->size, .ssaframesize = file->ssaframesize };
	struct sgx_enclave_create create = { .src = (uintptr_t)&secs };
	struct sgx_enclave_init init = { .sigstruct = (uintptr_t)sigstruct };
	size_t calls = 0, measured = 0, mapped = 0;
	int result;

	if (enclave.fd < 0)
		die("open", DEVICE ": %m");
	say("open", DEVICE " is descriptor %d", enclave.fd);

	secs.base = enclave.base = reserve(enclave.size);
	secs.miscselect = (uint32_t)field(sigstruct, SIGSTRUCT_MISCSELECT, 4);
	secs.attributes = field(sigstruct, SIGSTRUCT_ATTRIBUTES, 8) | (debug ? ATTRIBUTE_DEBUG : 0);
	secs.xfrm = field(sigstruct, SIGSTRUCT_XFRM, 8);
	if (ioctl(enclave.fd, SGX_IOC_ENCLAVE_CREATE, &create))
		die("create", "%m");
	say("create", "%lu KiB at %#lx%s", enclave.size / 1024, enclave.base, debug ? ", for debugging" : "");

	for (size_t i = 0, count; i < file->count; i += count, calls++) {
		count = alike(file, i);
		if (add(enclave.fd, file, &file->pages[i], count))
			die("add", "%zu pages at %#lx: %m", count, file->pages[i].offset);
		measured += file->pages[i].measured ? count : 0;
	}
	say("add", "%zu pages by %zu calls, %zu of them measured", file->count, calls, measured);

	result = ioctl(enclave.fd, SGX_IOC_ENCLAVE_INIT, &init);
	if (result < 0)
		die("init", "%m (errno %d)", errno);
	if (result > 0)
		die("init", "EINIT gave error %d", result);
	say("init", "measurement and signature are accepted");

	for (size_t i = 0, count; i < file->count; i += count, mapped++) {
		count = alike(file, i);
		map(&enclave, &file->pages[i], count);
		if ((file->pages[i].flags & SECINFO_TYPE) == SECINFO_TCS && !enclave.tcs)
			enclave.tcs = enclave.base + file->pages[i].offset;
	}
	say("map", "%zu mappings; the first TCS is at %#lx", mapped, enclave.tcs);
	return enclave;
}
