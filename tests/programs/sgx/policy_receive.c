/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A12, A13: another program gets the enclave's descriptor, by a message and by inheriting it across exec, and is judged as
 * what it is. Its name is ./stranger: it has no right to use enclaves of this type.
 */
#include "policy.h"

static void stranger(char **argv)
{
	int by_message = atoi(argv[1]), inherited = atoi(argv[2]);
	uint64_t base = strtoul(argv[3], NULL, 16);
	struct enclave e = { receive_fd(by_message), base };

	policed = has(argv, "policy");
	for (int i = 0; i < 2; i++) {
		/* At the first use, whatever it is, and at each. */
		if (policed) {
			FAILS(EACCES, map(&e, AT_DATA, PAGE, PROT_READ));
			FAILS(EACCES, map(&e, 0, PAGE, RX));
			FAILS(EACCES, sgx_add(e.fd, (void *)stranger, AT_LOOSE, PAGE, SECINFO_REG | SECINFO_R));
		} else {
			WORKS(map(&e, AT_DATA, PAGE, PROT_READ));
			WORKS(map(&e, 0, PAGE, RX));
		}
		e.fd = inherited;
	}
	exit(0);
}

int main(int argc, char **argv)
{
	char words[3][20];
	char *program[] = { "./stranger", words[0], words[1], words[2], argv[1], NULL };
	struct enclave e;
	int pair[2], status;
	pid_t child;

	if (argc == 5)
		stranger(argv);
	begin(argv);
	e = approved();
	WORKS(sgx_init(e.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	map_all(&e);
	WORKS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	snprintf(words[0], sizeof(words[0]), "%d", pair[1]);
	snprintf(words[1], sizeof(words[1]), "%d", e.fd);
	snprintf(words[2], sizeof(words[2]), "%lx", e.base);
	child = (pid_t)WORKS(fork());
	if (!child) {
		execv(program[0], program);
		_exit(1);
	}
	send_fd(pair[0], e.fd);
	CHECK(waitpid(child, &status, 0), child);
	CHECK(status, 0);
	/* Ours it still is. */
	use(&e);
	return success();
}
