/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A13: another program takes the enclave's descriptor out of its owner with pidfd_getfd(2), and is judged as what it is.
 * It is the owner's parent, so that it may. A word says which: "stranger" has no right to use enclaves of this type, "app" has.
 */
#include "policy.h"

/* What the owner tells: who it is, which descriptor, and where the enclave is. */
struct told {
	pid_t pid;
	struct enclave e;
};

/* Until the taker has ended, whoever waits at the other end of the pipe. */
static void owner(int tell, int wait)
{
	struct told told = { getpid(), approved() };
	char byte;

	WORKS(sgx_init(told.e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&told.e);
	use(&told.e);
	CHECK(write(tell, &told, sizeof(told)), sizeof(told));
	CHECK(read(wait, &byte, 1), 1);
	/* Ours it still is. */
	use(&told.e);
}

static int taken(const struct told *told)
{
	int pidfd = (int)WORKS(syscall(SYS_pidfd_open, told->pid, 0)), fd = (int)syscall(SYS_pidfd_getfd, pidfd, told->e.fd, 0);

	if (fd < 0 && (errno == EPERM || errno == ENOSYS))
		skip("pidfd_getfd(2) is not allowed here");
	WORKS(fd);
	WORKS(close(pidfd));
	return fd;
}

static int taker(char **argv)
{
	struct told told;
	struct enclave e;
	int status;

	policed = has(argv, "policy") && has(argv, "stranger");
	CHECK(read(atoi(argv[1]), &told, sizeof(told)), sizeof(told));
	e = (struct enclave){ taken(&told), told.e.base };
	/* Where the owner has it there may be something else here. */
	if (mmap((void *)e.base, ENCLAVE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		skip("the enclave's addresses are taken");
	/* At the first use, whatever it is, and at each. */
	REFUSED(map(&e, AT_DATA, PAGE, PROT_READ));
	REFUSED(map(&e, 0, PAGE, RX));
	if (policed) {
		FAILS(EACCES, sgx_add(e.fd, (void *)taker, AT_LOOSE, PAGE, SECINFO_REG | SECINFO_R));
	} else {
		map_all(&e);
		CHECK(peek(&e, AT_DATA), 7);
		use(&e);
	}
	CHECK(write(atoi(argv[2]), "", 1), 1);
	CHECK(waitpid(told.pid, &status, 0), told.pid);
	CHECK(status, 0);
	return success();
}

int main(int argc, char **argv)
{
	char words[2][12], path[20];
	char *program[] = { path, words[0], words[1], argv[1], argv[2], NULL };
	int tell[2], end[2];

	if (argc == 5)
		return taker(argv);
	begin(argv);
	WORKS(pipe(tell));
	WORKS(pipe(end));
	if (!WORKS(fork())) {
		owner(tell[1], end[0]);
		_exit(0);
	}
	WORKS(close(tell[1]));
	snprintf(words[0], sizeof(words[0]), "%d", tell[0]);
	snprintf(words[1], sizeof(words[1]), "%d", end[1]);
	snprintf(path, sizeof(path), "./%s", argv[2]);
	execv(path, program);
	return 1;
}
