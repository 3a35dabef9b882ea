/* SPDX-License-Identifier: Apache-2.0 */
/* ADD_PAGES reads its source as the program could: not where nothing is mapped, nor PROT_NONE, nor another enclave. */
#include "sgx.h"

static int fd;
static uint64_t at;

static int add(const void *src, uint64_t length)
{
	int result = sgx_add(fd, src, at, length, SECINFO_REG | SECINFO_R);

	at += result ? 0 : length;
	return result;
}

int main(void)
{
	struct enclave other = built(0);
	char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int file = memfd_create("source", 0);
	struct secinfo secinfo = { .flags = SECINFO_REG | SECINFO_R };
	struct sgx_enclave_add_pages two = { (uintptr_t)memory + PAGE, 0x20000, 3 * PAGE, (uintptr_t)&secinfo, 1, 0 };

	fd = created(0).fd;
	WORKS(ftruncate(file, PAGE));
	WORKS(munmap(memory + 3 * PAGE, PAGE));
	FAILS(EFAULT, add(NULL, PAGE));
	FAILS(EFAULT, add(memory + 3 * PAGE, PAGE));
	FAILS(EFAULT, add((void *)(1ul << 63), PAGE));
	FAILS(EFAULT, ioctl(fd, SGX_IOC_ENCLAVE_ADD_PAGES, &two));
	CHECK(two.count, 2 * PAGE);
	/* Never touched, read-only, a file's, shared. */
	WORKS(add(memory, PAGE));
	WORKS(mprotect(memory, PAGE, PROT_READ));
	WORKS(add(memory, PAGE));
	WORKS(add(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0), PAGE));
	WORKS(add(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0), PAGE));
	WORKS(add(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), PAGE));
	FAILS(EFAULT, add(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, file, 0) + PAGE, PAGE));
	WORKS(mprotect(memory, PAGE, PROT_NONE));
	FAILS(EFAULT, add(memory, PAGE));
	CHECK(map_at(&other, AT_CONSTANT, PAGE, PROT_READ), in(&other, AT_CONSTANT));
	FAILS(EFAULT, add((void *)in(&other, AT_CONSTANT), PAGE));
	return success();
}
