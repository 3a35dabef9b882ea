/* SPDX-License-Identifier: Apache-2.0 */
/* Where a mapping of a device goes: at a free hint, elsewhere from a taken one, where MAP_FIXED says. Compared. */
#include "sgx.h"

int main(int argc, char **argv)
{
	int fd = (int)WORKS(open(argc > 1 ? argv[1] : SGX_ENCLAVE, O_RDWR));
	char *space = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *other;

	WORKS(munmap(space + 4 * PAGE, 8 * PAGE));
	printf("%d\n", mmap(space + 4 * PAGE, PAGE, PROT_READ, MAP_SHARED, fd, 0) == space + 4 * PAGE);
	printf("%d\n", mmap(space + 6 * PAGE + 5, PAGE, PROT_READ, MAP_SHARED, fd, 0) == space + 6 * PAGE);
	other = mmap(space + 4 * PAGE, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	printf("%d %d\n", other != MAP_FAILED, other != space + 4 * PAGE);
	other = mmap(space + 9 * PAGE, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	printf("%d %d\n", other != MAP_FAILED, other != space + 9 * PAGE);
	printf("%d\n", mmap(space, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == space);
	printf("%d\n", mmap(space + PAGE, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == space + PAGE);
	other = mmap(NULL, 64 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	printf("%d %d\n", other != MAP_FAILED, (int)((uintptr_t)other % PAGE));
	/* Nothing of it overlaps what is there. */
	printf("%d\n", mmap(other, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == MAP_FAILED);
	SAY(munmap(other, 64 * PAGE));
	printf("%d\n", mmap(other, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == other);
	/* An ordinary mapping keeps away from the device's. */
	other = mmap(space + 4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("%d\n", other != space + 4 * PAGE);
	SAY(mmap(space + 4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	SAY(mmap(space + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	space[4 * PAGE] = 1;
	return success();
}
