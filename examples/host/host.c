/* A host program: loads an enclave through /dev/sgx_enclave, calls it, and takes an exception from inside.
 *
 * It knows the kernel's interface and the example enclave, and nothing else. Where it runs, on a machine with SGX or
 * under `swsgx run`, it cannot tell.
 *
 *	host [-d] ENCLAVE.sgxs ENCLAVE.sig			shows it all
 *	host [-d] ENCLAVE.sgxs ENCLAVE.sig calls COUNT		what a call costs
 *	host [-d] ENCLAVE.sgxs ENCLAVE.sig compute ROUNDS	computes inside, for a long time if you like
 *
 * -d makes a debug enclave, which a debugger can look into.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../compute/sha256.h"
#include "host.h"

/* What the enclave does: compute/main.c. */
enum { OP_NOTHING = 0, OP_SHA256 = 1, OP_COMPUTE = 2, OP_COUNT = 3 };

#define TEXT_PAGES 16

static bool quiet;

static void print(FILE *out, const char *what, const char *format, va_list arguments)
{
	fprintf(out, "%-10s  ", what);
	vfprintf(out, format, arguments);
	fputc('\n', out);
	fflush(out);
}

void say(const char *what, const char *format, ...)
{
	va_list arguments;

	if (quiet)
		return;
	va_start(arguments, format);
	print(stdout, what, format, arguments);
	va_end(arguments);
}

void die(const char *what, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print(stderr, what, format, arguments);
	va_end(arguments);
	exit(1);
}

static const char *mnemonic(unsigned int vector)
{
	static const char *const names[] = { [0] = "#DE", [6] = "#UD", [13] = "#GP", [14] = "#PF" };
	const char *name = vector < sizeof(names) / sizeof(*names) ? names[vector] : NULL;

	return name ? name : "another one";
}

static void show(const char *what, const struct sgx_enclave_run *run)
{
	say(what, "function %u (%s)", run->function, run->function == EENTER ? "EENTER itself" : "inside, or ERESUME");
	say("", "exception_vector %u (%s), error code %#x, address %#" PRIx64, run->exception_vector,
	    mnemonic(run->exception_vector), run->exception_error_code, (uint64_t)run->exception_addr);
}

static void hex(char *text, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
}

/* The SHA-256 of host memory, computed inside; compared with what the same C says out here. */
static void hash(const struct enclave *enclave, struct call *how, const uint8_t *text, size_t size)
{
	uint8_t inside[32] = { 0 }, outside[32];
	struct sgx_enclave_run run;
	struct sha256 state;
	char digits[65];

	run = call(enclave, how, OP_SHA256, (uintptr_t)text, size, (uintptr_t)inside);
	if (run.function != EEXIT || how->status)
		die("call", "function %u, status %" PRIu64, run.function, how->status);
	sha256_begin(&state);
	sha256_update(&state, text, size);
	sha256_end(&state, outside);
	hex(digits, inside, sizeof(inside));
	say("call", "SHA-256 of %zu bytes of mine: %s", size, digits);
	say("", "the same computed out here: %s", memcmp(inside, outside, 32) ? "ANOTHER ONE" : "equal");
	if (memcmp(inside, outside, 32))
		exit(1);
}

/* Makes the page readable that the enclave could not read. */
static int mend(struct call *call, const struct sgx_enclave_run *run)
{
	show("exception", run);
	if ((run->exception_addr & -PAGE) != call->page)
		return 0;
	if (mprotect((void *)call->page, PAGE, PROT_READ))
		die("exception", "%m");
	say("", "that page of mine was closed: opened, and ERESUME");
	return ERESUME;
}

static void tour(const struct enclave *enclave)
{
	uint8_t *text = mmap(NULL, TEXT_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sgx_enclave_run run;
	struct call how = { 0 };
	char digits[17];

	if (text == MAP_FAILED)
		die("call", "%m");
	call(enclave, &how, OP_NOTHING, 20, 22, 0);
	say("call", "20 + 22 = %" PRIu64, how.value);
	for (int i = 1; i <= 3; i++)
		call(enclave, &how, OP_COUNT, 7, 0, 0);
	say("call", "it keeps what it counts: three times 7 is %" PRIu64, how.value);

	for (size_t i = 0; i < TEXT_PAGES * PAGE; i++)
		text[i] = (uint8_t)(i * i >> 3);
	hash(enclave, &how, text, TEXT_PAGES * PAGE);

	how.exception = mend;
	how.page = (uintptr_t)text + 5 * PAGE;
	if (mprotect((void *)how.page, PAGE, PROT_NONE))
		die("exception", "%m");
	hash(enclave, &how, text, TEXT_PAGES * PAGE);

	how = (struct call){ 0 };
	run = enter(enclave->base, EENTER, &how, 0, 0, 0, 0);
	show("no TCS", &run);

	hex(digits, (const uint8_t *)enclave->base, 8);
	say("outside", "I read %s where the enclave begins", digits);
}

static void calls(const struct enclave *enclave, uint64_t count)
{
	struct timespec start, end;
	struct call how = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint64_t i = 0; i < count; i++)
		call(enclave, &how, OP_NOTHING, i, 1, 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	quiet = false;
	say("calls", "%" PRIu64 " calls, %.0f ns each", count,
	    ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / (double)count);
}

static void compute(const struct enclave *enclave, uint64_t rounds)
{
	struct call how = { 0 };
	struct sgx_enclave_run run;

	say("compute", "process %d goes in for %" PRIu64 " rounds", getpid(), rounds);
	run = call(enclave, &how, OP_COMPUTE, rounds, 1, 0);
	if (run.function != EEXIT)
		show("exception", &run);
	else
		say("compute", "%#" PRIx64, how.value);
}

int main(int argc, char **argv)
{
	bool debug = argc > 1 && !strcmp(argv[1], "-d");
	char **words = argv + 1 + debug;
	int count = argc - 1 - debug;
	uint8_t sigstruct[SIGSTRUCT_SIZE];
	struct enclave enclave;
	struct file file;

	if (count != 2 && !(count == 4 && (!strcmp(words[2], "calls") || !strcmp(words[2], "compute")))) {
		fprintf(stderr, "usage: %s [-d] ENCLAVE.sgxs ENCLAVE.sig [calls COUNT | compute ROUNDS]\n", argv[0]);
		return 2;
	}
	quiet = count == 4 && !strcmp(words[2], "calls");
	file = read_sgxs(words[0]);
	read_whole(words[1], sigstruct, sizeof(sigstruct));
	enclave = load(&file, sigstruct, debug);
	find_vdso();
	if (count == 2)
		tour(&enclave);
	else if (!strcmp(words[2], "calls"))
		calls(&enclave, strtoull(words[3], NULL, 0));
	else
		compute(&enclave, strtoull(words[3], NULL, 0));
	return 0;
}
