/* SPDX-License-Identifier: Apache-2.0 */
/* An initialised enclave outlives exec with its descriptor: the new program maps it, and finds what the old one left. */
#include "sgx.h"

int main(int argc, char **argv)
{
	char words[2][20];
	char *program[] = { argv[0], words[0], words[1], NULL };
	struct enclave e;

	if (argc < 3) {
		e = loaded();
		poke(&e, AT_DATA, 4711);
		snprintf(words[0], sizeof(words[0]), "%d", e.fd);
		snprintf(words[1], sizeof(words[1]), "%lx", e.base);
		execv("/proc/self/exe", program);
		return 1;
	}
	e = (struct enclave){ atoi(argv[1]), strtoul(argv[2], NULL, 16) };
	FAILS(EINVAL, sgx_init(e.fd, enclave_sigstruct));
	FAILS(EACCES, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, e.fd, 0));
	/* The address space is another one: the range must be free here, too. */
	if (mmap((void *)e.base, ENCLAVE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
	    MAP_FAILED)
		skip("the new program has something where the old one had its enclave");
	map_all(&e);
	CHECK(peek(&e, AT_DATA), 4711);
	return success();
}
