/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes with an enclave each that has grown, and does what it is told line by line: "PROCESS WORD PAGE VALUE". A
 * test does things to the pages in between. Arguments: pages; "raw" to enter without the vDSO, or "vdso"; "debug".
 */
#include "sgx.h"

static struct enclave e;
static uint64_t pages, base;
static int raw, thread; /* the next TCS, behind an exception */

static void on_fault(int number, siginfo_t *info, void *context)
{
	note(number, info, context);
	abandon(context);
}

/* What happened at the last entry, if it was not an exit. */
static int refused(char *told, int left)
{
	if (raw ? !left : run.function != EEXIT)
		thread++;
	if (raw && !left)
		return sprintf(told, "signal %d code %d page %lld", seen.number, seen.code,
			       (long long)(seen.address - base) / (long long)PAGE);
	if (!raw && run.function != EEXIT)
		return sprintf(told, "vector %d code %d page %lld", run.exception_vector, run.exception_error_code,
			       (long long)(run.exception_addr - base) / (long long)PAGE);
	return 0;
}

static int does(uint64_t op, uint64_t a, uint64_t b, char *told)
{
	int left = raw ? RAW(&e, thread, op, a, b, 0) : ENTER(&e, thread, op, a, b, 0);

	if (!raw)
		CHECK(left, 0);
	return refused(told, left);
}

static void answer(const char *word, uint64_t page, uint64_t value, char *told)
{
	volatile uint64_t *at = (uint64_t *)(base + page * PAGE);
	uint64_t found = 0;

	strcpy(told, "done");
	if (!strcmp(word, "read") && !does(OP_READ, (uint64_t)at, (uint64_t)&found, told))
		sprintf(told, "value %llu", (unsigned long long)found);
	else if (!strcmp(word, "write"))
		does(OP_WRITE, (uint64_t)at, value, told);
	else if (!strcmp(word, "look"))
		sprintf(told, "value %llu", (unsigned long long)*at);
	else if (!strcmp(word, "where"))
		sprintf(told, "%#llx %d", (unsigned long long)(page + (base - e.base) / PAGE), (int)getpid());
	else if (!strcmp(word, "all"))
		for (uint64_t i = 0; i < pages; i++)
			if (!i || strncmp(told, "v", 1))
				does(OP_WRITE, base + i * PAGE, value + i, told);
}

static void start(uint64_t attributes)
{
	uint64_t wrong = 1;

	e = initialised(attributes);
	map_all(&e);
	base = in(&e, AT_HOLES);
	CHECK(map_at(&e, AT_HOLES, pages * PAGE, PROT_READ | PROT_WRITE), base);
	CLEAN(&e, 0, OP_GROW, base, pages, &wrong);
	CHECK(wrong, 0);
	handle(SIGBUS, on_fault, 0);
	handle(SIGSEGV, on_fault, 0);
}

static void obey(const char *line, char *told)
{
	char word[16];
	unsigned long long page = 0, value = 0;

	CHECK(sscanf(line, "%*d %15s %llu %llu", word, &page, &value) > 0, 1);
	answer(word, page, value, told);
}

static void serve(int from, int to)
{
	char line[128], told[128];
	ssize_t length;

	while ((length = read(from, line, sizeof(line) - 1)) > 0) {
		line[length] = 0;
		obey(line, told);
		strcat(told, "\n");
		WORKS(write(to, told, strlen(told)));
	}
}

int main(int argc, char **argv)
{
	int pair[2];
	char line[128];
	ssize_t length;

	pages = strtoul(argv[1], NULL, 0);
	raw = argc > 2 && !strcmp(argv[2], "raw");
	WORKS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	if (!WORKS(fork())) {
		close(pair[0]);
		start(argc > 3 ? ATTRIBUTE_DEBUG : 0);
		WORKS(write(pair[1], "", 1));
		serve(pair[1], pair[1]);
		return 0;
	}
	close(pair[1]);
	CHECK(read(pair[0], line, 1), 1); /* the other one's enclave is the first */
	start(argc > 3 ? ATTRIBUTE_DEBUG : 0);
	puts("ready");
	fflush(stdout);
	while ((length = read(0, line, sizeof(line) - 1)) > 0) {
		line[length] = 0;
		if (line[0] == '2') {
			char told[128];

			obey(line, told);
			printf("%s\n", told);
		} else {
			WORKS(send(pair[0], line, (size_t)length, 0));
			length = WORKS(recv(pair[0], line, sizeof(line) - 1, 0));
			printf("%.*s", (int)length, line);
		}
		fflush(stdout);
	}
	return success();
}
