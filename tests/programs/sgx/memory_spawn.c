/* SPDX-License-Identifier: Apache-2.0 */
/* vfork, posix_spawn and system from a program with an enclave: others run, and it enters as before. */
#include "sgx.h"
#include <spawn.h>

int main(void)
{
	struct enclave e = loaded();
	char *words[] = { (char *)"true", NULL }, *none[] = { NULL };
	int status;
	pid_t child;

	poke(&e, AT_DATA, 8);
	for (int i = 0; i < 3; i++) {
		child = vfork();
		if (!child) {
			execve("/bin/true", words, none);
			_exit(9);
		}
		CHECK(waitpid(child, &status, 0), child);
		CHECK(status, 0);
		CHECK(peek(&e, AT_DATA), 8);
		CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, words, none), 0);
		CHECK(waitpid(child, &status, 0), child);
		CHECK(status, 0);
		CHECK(peek(&e, AT_DATA), 8);
		CHECK(system("exit 3"), 3 << 8);
		CHECK(peek(&e, AT_DATA), 8);
	}
	return success();
}
