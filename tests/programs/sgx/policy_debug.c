/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A26: a debugger writes into a page of code. Who may not is told EIO, by all ways; where it is allowed, the page is dirty
 * from then on, and not mapped executable any more.
 */
#include "policy.h"
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static struct enclave e;

static void no_debugger(const char *what, long long found)
{
	if (policed)
		check_fails(__FILE__, __LINE__, what, found, EIO);
	else
		check_works(__FILE__, __LINE__, what, found);
}

#define NO_DEBUGGER(call) no_debugger(#call, (long long)(call))

static void by_tracing(void)
{
	pid_t child = (pid_t)WORKS(fork());
	int status;

	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	/* Calls that are served come to the tracer as SIGSYS. */
	for (;;) {
		CHECK(waitpid(child, &status, 0), child);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) == SIGSTOP)
			break;
		WORKS(ptrace(PTRACE_CONT, child, NULL, WSTOPSIG(status)));
	}
	CHECK(WIFSTOPPED(status), 1);
	NO_DEBUGGER(ptrace(PTRACE_POKETEXT, child, e.base + PAGE - 8, 0x9090909090909090));
	WORKS(kill(child, SIGKILL));
	CHECK(waitpid(child, &status, 0), child);
}

static struct enclave for_debugging(void)
{
	struct enclave made = created(ATTRIBUTE_DEBUG);

	WORKS(add_image(made.fd, file_mapped(CODE, PROT_READ, MAP_PRIVATE)));
	WORKS(sgx_init(made.fd, file_mapped(SIGNATURE, PROT_READ, MAP_PRIVATE)));
	return made;
}

int main(int argc, char **argv)
{
	unsigned char bytes[8] = { 1 };
	struct iovec vector = { bytes, 8 };
	int memory;

	(void)argc;
	begin(argv);
	e = for_debugging();
	memory = (int)WORKS(open("/proc/self/mem", O_RDWR));
	if (has(argv, "allowed")) {
		WORKS(map(&e, 0, PAGE, PROT_READ));
		CHECK(pwrite(memory, bytes, 8, (off_t)in(&e, PAGE - 8)), 8);
		REFUSED(map(&e, 0, PAGE, RX));
		/* Nor does a page become dirty that was executable. */
		e = for_debugging();
		WORKS(map(&e, 0, PAGE, RX));
		NO_DEBUGGER(pwrite(memory, bytes, 8, (off_t)in(&e, PAGE - 8)));
		return success();
	}
	map_all(&e);
	NO_DEBUGGER(pwrite(memory, bytes, 8, (off_t)in(&e, PAGE - 8)));
	NO_DEBUGGER(pwritev(memory, &vector, 1, (off_t)in(&e, PAGE - 8)));
	CHECK(lseek(memory, (off_t)in(&e, PAGE - 8), SEEK_SET), in(&e, PAGE - 8));
	NO_DEBUGGER(write(memory, bytes, 8));
	NO_DEBUGGER(writev(memory, &vector, 1));
	NO_DEBUGGER(pread(memory, bytes, 8, (off_t)in(&e, AT_CONSTANT)));
	by_tracing();
	/* What is allowed to the enclave is not what is allowed to its debugger. */
	use(&e);
	return success();
}
