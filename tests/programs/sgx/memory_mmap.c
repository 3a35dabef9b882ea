/* SPDX-License-Identifier: Apache-2.0 */
/* mmap's arguments, of a node that nothing was done with: the errno and the order of checks. Compared with a device. */
#include "sgx.h"

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : SGX_ENCLAVE;
	int fd = (int)WORKS(open(path, O_RDWR)), r = (int)WORKS(open(path, O_RDONLY));
	int w = (int)WORKS(open(path, O_WRONLY)), none = (int)WORKS(open(path, O_ACCMODE));
	int only = (int)WORKS(open(path, O_PATH));
	char *taken = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	SAY(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0));
	SAY(mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0));
	SAY(mmap(NULL, ~0ul, PROT_READ, MAP_SHARED, fd, 0));
	SAY(mmap(NULL, 1ul << 47, PROT_READ, MAP_SHARED, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, 0, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, 4, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 1));
	SAY(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 1));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, -1, 1));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, -PAGE));
	SAY(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, -PAGE));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, -1, 0));
	SAY(mmap(NULL, 0, PROT_READ, MAP_SHARED, -1, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, only, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | 1 << 27, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_LOCKED | MAP_NORESERVE, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | 1 << 27, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_GROWSDOWN, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_HUGETLB, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, r, 0));
	SAY(mmap(NULL, PAGE, PROT_NONE, MAP_SHARED, w, 0));
	SAY(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, w, 0));
	SAY(mmap(NULL, PAGE, PROT_NONE, MAP_SHARED, none, 0));
	SAY(mmap(taken + 1, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	SAY(mmap((void *)(1ul << 47), PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	SAY(mmap((void *)-PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	SAY(mmap(taken, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0));
	SAY(mmap(taken + 3 * PAGE, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0));
	SAY(mmap(taken + 1, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0));
	SAY(munmap(taken + PAGE, PAGE));
	SAY(mmap(taken + PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0));
	SAY(mmap(taken + PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0));
	SAY(mmap(taken, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ | 1 << 20, MAP_SHARED, fd, 0));
	SAY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, fd, 0));
	return success();
}
