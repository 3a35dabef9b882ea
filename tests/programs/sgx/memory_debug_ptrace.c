/* SPDX-License-Identifier: Apache-2.0 */
/* A tracer reads and writes words of an enclave for debugging, whatever their mappings; of no other, and not of holes. */
#include "sgx.h"
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static struct enclave e;

/* The tracee: it stops, and finds in its enclave what its tracer has left there. */
static void traced(void)
{
	uint64_t sum = 0;

	WORKS(prctl(PR_SET_PDEATHSIG, SIGKILL));
	WORKS(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
	CLEAN(&e, 0, OP_ADD, 1, 2, &sum);
	WORKS(raise(SIGSTOP));
	CHECK(peek(&e, AT_DATA), 0x1122334455667788);
	CHECK(peek(&e, AT_CONSTANT), 0x77);
	CHECK(peek(&e, PAGE - 8), 0x9090909090909090);
	exit(0);
}

static uint64_t read_word(pid_t pid, uint64_t at)
{
	errno = 0;
	return (uint64_t)ptrace(PTRACE_PEEKDATA, pid, at, NULL);
}

static int write_word(pid_t pid, uint64_t at, uint64_t value)
{
	return (int)ptrace(PTRACE_POKETEXT, pid, at, value);
}

static void no_word(pid_t pid, uint64_t at)
{
	CHECK(read_word(pid, at), -1);
	CHECK(errno, EIO);
	FAILS(EIO, write_word(pid, at, 1));
}

/* What it gets but SIGSTOP it may have; its wait status then. */
static int goes_on(pid_t child)
{
	int status;

	CHECK(waitpid(child, &status, 0), child);
	while (WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP) {
		WORKS(ptrace(PTRACE_CONT, child, NULL, WSTOPSIG(status)));
		CHECK(waitpid(child, &status, 0), child);
	}
	return status;
}

static pid_t stopped(void)
{
	pid_t child;

	fflush(stdout);
	child = (pid_t)WORKS(fork());
	if (!child)
		traced();
	CHECK(WIFSTOPPED(goes_on(child)), 1);
	return child;
}

int main(void)
{
	uint64_t own = 0x1234, copy = 0;
	struct iovec here = { &copy, 8 }, there;
	pid_t child;
	int status, memory;
	char path[32];

	e = initialised(ATTRIBUTE_DEBUG);
	map_all(&e);
	CHECK(map_at(&e, ENCLAVE_SIZE - PAGE, PAGE, PROT_READ), in(&e, ENCLAVE_SIZE - PAGE));
	poke(&e, AT_DATA, 5);
	/* Who does not trace it cannot. */
	FAILS(ESRCH, write_word(getpid(), in(&e, AT_DATA), 1));
	child = stopped();
	CHECK(read_word(child, in(&e, AT_CONSTANT)), 0x0706050403020100);
	CHECK(read_word(child, in(&e, AT_DATA)), 5);
	CHECK(read_word(child, (uintptr_t)&own), 0x1234);
	WORKS(write_word(child, in(&e, AT_DATA), 0x1122334455667788));
	WORKS(write_word(child, in(&e, AT_CONSTANT), 0x77));
	WORKS(write_word(child, in(&e, PAGE - 8), 0x9090909090909090));
	CHECK(read_word(child, in(&e, PAGE - 8)), 0x9090909090909090);
	no_word(child, in(&e, ENCLAVE_SIZE - PAGE));
	/* Of a TCS the fields that a debugger may see; only FLAGS can be written. */
	CHECK(read_word(child, tcs_of(&e, 0) + 8), 0);
	WORKS(write_word(child, tcs_of(&e, 0) + 8, 0));
	FAILS(EIO, write_word(child, tcs_of(&e, 0) + 16, 0));
	/* Nothing but these two ways. */
	there = (struct iovec){ (void *)in(&e, AT_DATA), 8 };
	FAILS(EFAULT, process_vm_readv(child, &here, 1, &there, 1, 0));
	there.iov_base = &own;
	CHECK(process_vm_readv(child, &here, 1, &there, 1, 0), 8);
	CHECK(copy, 0x1234);
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	memory = (int)WORKS(open(path, O_RDONLY));
	CHECK(lseek(memory, (off_t)in(&e, AT_DATA), SEEK_SET), in(&e, AT_DATA));
	CHECK(read(memory, &copy, 3), 3);
	CHECK(copy, 0x667788);
	CHECK(read(memory, &copy, 3), 3);
	CHECK(copy, 0x334455);
	FAILS(EBADF, pwrite(memory, &copy, 3, (off_t)in(&e, AT_DATA)));
	WORKS(ptrace(PTRACE_CONT, child, NULL, NULL));
	CHECK(goes_on(child), 0);
	/* The enclave is one, whoever has it mapped. */
	CHECK(peek(&e, AT_CONSTANT), 0x77);

	e = loaded();
	child = stopped();
	no_word(child, in(&e, AT_DATA));
	no_word(child, in(&e, AT_CONSTANT));
	no_word(child, e.base);
	WORKS(kill(child, SIGKILL));
	CHECK(waitpid(child, &status, 0), child);
	return success();
}
