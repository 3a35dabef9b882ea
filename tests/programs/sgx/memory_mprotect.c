/* SPDX-License-Identifier: Apache-2.0 */
/* mprotect's arguments and errors, over mappings of a device with gaps and others between. Compared with a device. */
#include "sgx.h"

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : SGX_ENCLAVE;
	int fd = (int)WORKS(open(path, O_RDWR)), r = (int)WORKS(open(path, O_RDONLY));
	char *space = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *anonymous = space + 8 * PAGE;

	/* Four pages of the device, a gap of two, two of the device, then others. */
	WORKS(mmap(space, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	WORKS(munmap(space + 4 * PAGE, 2 * PAGE));
	WORKS(mmap(space + 6 * PAGE, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	SAY(mprotect(space + 1, PAGE, PROT_READ));
	SAY(mprotect(space + 1, 0, PROT_READ));
	SAY(mprotect(space, 0, PROT_READ));
	SAY(mprotect(space, 1, PROT_READ | PROT_WRITE));
	SAY(mprotect(space, ~0ul, PROT_READ));
	SAY(mprotect(space, PAGE, PROT_READ | 1 << 20));
	SAY(mprotect(space, PAGE, PROT_READ | PROT_GROWSDOWN));
	SAY(mprotect(space, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP));
	SAY(mprotect(space + 4 * PAGE, PAGE, PROT_READ));
	SAY(mprotect(space, 5 * PAGE, PROT_READ));
	SAY(mprotect(space, 8 * PAGE, PROT_READ));
	SAY(mprotect(space + 4 * PAGE, 4 * PAGE, PROT_READ));
	SAY(mprotect(space + 6 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE));
	anonymous[0] = anonymous[2 * PAGE - 1] = 1;
	SAY(mprotect(space + 6 * PAGE, 10 * PAGE, PROT_READ | PROT_WRITE));
	anonymous[8 * PAGE - 1] = 1;
	/* Without write permission on the descriptor: what comes before in the range is changed, what comes behind not. */
	WORKS(mmap(space + 10 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, r, 0));
	WORKS(mprotect(space + 9 * PAGE, PAGE, PROT_NONE));
	WORKS(mprotect(space + 11 * PAGE, PAGE, PROT_NONE));
	SAY(mprotect(space + 10 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	SAY(mprotect(space + 9 * PAGE, 3 * PAGE, PROT_READ | PROT_WRITE));
	space[9 * PAGE] = 1;
	/* A pipe says whether a page can be read, without a signal. */
	int pipes[2];

	WORKS(pipe(pipes));
	SAY(write(pipes[1], space + 9 * PAGE, 1));
	SAY(write(pipes[1], space + 11 * PAGE, 1));
	SAY(syscall(SYS_pkey_mprotect, space, PAGE, PROT_READ, -1));
	SAY(syscall(SYS_pkey_mprotect, space + 1, PAGE, PROT_READ, -1));
	SAY(munmap(space + 1, PAGE));
	SAY(munmap(space, 0));
	SAY(munmap(space + 3 * PAGE, 4 * PAGE));
	SAY(mprotect(space, 3 * PAGE, PROT_NONE));
	SAY(mprotect(space + 6 * PAGE, PAGE, PROT_NONE));
	SAY(mprotect(space + 7 * PAGE, PAGE, PROT_NONE));
	SAY(munmap(space, 16 * PAGE));
	SAY(munmap(space, 16 * PAGE));
	return success();
}
