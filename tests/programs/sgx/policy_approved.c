/* SPDX-License-Identifier: Apache-2.0 */
/* P1: code of an approved file, data, TCS and SIGSTRUCT of files: built, entered, grown, and passed to another program. */
#include "policy.h"

#define HEAP 16ul

static void used_by_another(const struct enclave *e)
{
	char fd[12], base[20];
	char *words[] = { "./app", fd, base, NULL };
	int status;
	pid_t child;

	snprintf(fd, sizeof(fd), "%d", e->fd);
	snprintf(base, sizeof(base), "%lx", e->base);
	fflush(stdout);
	child = (pid_t)WORKS(fork());
	if (!child) {
		execv(words[0], words);
		_exit(1);
	}
	CHECK(waitpid(child, &status, 0), child);
	CHECK(status, 0);
}

static void app(char **argv)
{
	struct enclave e = { atoi(argv[1]), strtoul(argv[2], NULL, 16) };

	/* Where the builder had it there may be something else here. */
	if (mmap((void *)e.base, ENCLAVE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		exit(0);
	map_all(&e);
	CHECK(peek(&e, AT_DATA), 7);
	use(&e);
}

int main(int argc, char **argv)
{
	struct enclave e;

	if (argc == 3 && argv[2][0] != 'p') {
		app(argv);
		return 0;
	}
	begin(argv);
	e = approved();
	WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&e);
	use(&e);
	/* A heap that grows is no code. */
	WORKS(map(&e, AT_HOLES, HEAP * PAGE, RW));
	for (uint64_t i = 0; i < HEAP; i++)
		CHECK(ACCEPT(&e, 0, AT_HOLES + i * PAGE, SECINFO_RW | SECINFO_PENDING), 0);
	poke(&e, AT_HOLES, 1);
	used_by_another(&e);
	use(&e);
	return success();
}
