/* SPDX-License-Identifier: Apache-2.0 */
/* process_vm_readv, process_vm_writev and vmsplice cannot reach an enclave; they reach what is beside it. */
#include "sgx.h"
#include <sys/uio.h>

int main(void)
{
	struct enclave e = loaded();
	char buffer[64] = "outside", copy[64] = "";
	struct iovec local = { copy, 8 }, inside = { (void *)in(&e, AT_DATA), 8 }, outside = { buffer, 8 };
	int pipes[2];

	WORKS(pipe(pipes));
	poke(&e, AT_DATA, 5);
	FAILS(EFAULT, process_vm_readv(getpid(), &local, 1, &inside, 1, 0));
	FAILS(EFAULT, process_vm_writev(getpid(), &local, 1, &inside, 1, 0));
	FAILS(EFAULT, vmsplice(pipes[1], &inside, 1, 0));
	CHECK(process_vm_readv(getpid(), &local, 1, &outside, 1, 0), 8);
	CHECK(strcmp(copy, "outside"), 0);
	CHECK(peek(&e, AT_DATA), 5);
	return success();
}
