/* SPDX-License-Identifier: Apache-2.0 */
/* A9: a page writable in one process and executable in another, in both orders; and by two mappings of one process. */
#include "policy.h"

static struct enclave e;
static int pair[2];

/* In the other process, which has its own mappings: what is asked for by a byte, and how it ended. */
static void other(void *data)
{
	unsigned char prot;

	(void)data;
	while (read(pair[1], &prot, 1) == 1 && prot != 0xff) {
		int result = map(&e, AT_LOOSE + (prot & 8 ? PAGE : 0), PAGE, prot & 7), error = result ? errno : 0;

		CHECK(write(pair[1], &error, sizeof(error)), sizeof(error));
	}
}

static int there(unsigned char prot)
{
	int error;

	CHECK(write(pair[0], &prot, 1), 1);
	CHECK(read(pair[0], &error, sizeof(error)), sizeof(error));
	return error;
}

int main(int argc, char **argv)
{
	int no, status;
	pid_t child;

	(void)argc;
	begin(argv);
	no = policed ? EACCES : 0;
	e = loose();
	WORKS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	child = (pid_t)WORKS(fork());
	if (!child) {
		other(NULL);
		_exit(0);
	}
	/* W here, then X there. */
	WORKS(map(&e, AT_LOOSE, PAGE, RW));
	CHECK(there(RX), no);
	CHECK(there(RW), 0);
	/* X there, then W here. */
	CHECK(there(8 | RX), 0);
	REFUSED(map(&e, AT_LOOSE + PAGE, PAGE, RW));
	WORKS(map(&e, AT_LOOSE + PAGE, PAGE, RX));
	CHECK(write(pair[0], "\xff", 1), 1);
	CHECK(waitpid(child, &status, 0), child);
	CHECK(status, 0);
	/* One process: an enclave's page has one address, so its second mapping takes the first one's place. */
	REFUSED(map(&e, AT_LOOSE, PAGE, RX));
	WORKS(map(&e, AT_LOOSE, PAGE, RW));
	return success();
}
