/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enclaves that are together larger than the EPC: processes with four threads each read and write pages at random under a
 * storm of signals, fork, exit, are killed and started again. The host knows what is in every page.
 *
 * Arguments: the enclave's file (tests/make/paging.py), processes, seconds, what is added to ATTRIBUTES.
 */
#include "sgx.h"
#include "storm.h"

#define THREADS 4
#define CHILD_THREAD 4
#define AT_ONCE 16
#define CONSTANT 64ul /* pages that are written once */
#define GROWN 8ul     /* pages that a thread adds and removes */
#define STUCK 60      /* seconds */
#define MOST 16

struct file {
	uint64_t size, pieces, data, pages, tcs[THREADS + 1];
	unsigned char sigstruct[1808];
};

struct ask {
	uint64_t page, flags, before, after, wrong;
};

/* Of all processes. */
static struct common {
	volatile int stop;
	volatile uint64_t pages, ticks, forks, grown, started, exited, killed, wrong;
	volatile int ready[MOST];
} *common;

static struct file file;
static struct enclave e;
static uint64_t *seeds; /* by page, what is in it; 0: zeros */
static pthread_mutex_t ioctls = PTHREAD_MUTEX_INITIALIZER;
static volatile uint64_t turns[THREADS];
static volatile int leave;

static void add(volatile uint64_t *counter, uint64_t count)
{
	__atomic_fetch_add(counter, count, __ATOMIC_RELAXED);
}

static uint64_t any(uint64_t *state)
{
	*state = *state * TIMES + PLUS;
	return *state >> 20;
}

static void tick(int number)
{
	(void)number;
	add(&common->ticks, 1);
}

static void load(const char *path, uint64_t attributes)
{
	FILE *from = fopen(path, "rb");
	struct secs secs;

	CHECK(from && fread(&file, sizeof(file), 1, from) == 1, 1);
	e.fd = sgx_open();
	e.base = reserve(file.size);
	secs = a_secs(e.base, file.size);
	secs.attributes |= attributes;
	WORKS(sgx_create(e.fd, &secs));
	for (uint64_t i = 0; i < file.pieces; i++) {
		uint64_t piece[4]; /* offset, bytes, flags, bytes of contents */
		int prot;
		void *source;

		CHECK(fread(piece, sizeof(piece), 1, from), 1);
		source = mmap(NULL, piece[1], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(fread(source, 1, piece[3], from), piece[3]);
		WORKS(sgx_add(e.fd, source, piece[0], piece[1], piece[2]));
		WORKS(munmap(source, piece[1]));
		prot = piece[2] & SECINFO_TCS ? PROT_READ | PROT_WRITE : (int)(piece[2] & 7);
		CHECK(map_at(&e, piece[0], piece[1], prot), in(&e, piece[0]));
	}
	fclose(from);
	WORKS(sgx_init(e.fd, file.sigstruct));
	CHECK(map_at(&e, file.size - THREADS * GROWN * PAGE, THREADS * GROWN * PAGE, PROT_READ | PROT_WRITE),
	      in(&e, file.size - THREADS * GROWN * PAGE));
	seeds = calloc(file.pages, sizeof(*seeds));
}

/* Have the enclave do it; nothing may be wrong. */
static void asks(int thread, struct ask *asked, uint64_t count)
{
	find_vdso();
	run.tcs = e.base + file.tcs[thread];
	check_clean(__FILE__, __LINE__, "asks", vdso_call((uint64_t)asked, count, 0, EENTER, 0, 0, &run));
	for (uint64_t i = 0; i < count; i++) {
		if (!asked[i].wrong)
			continue;
		add(&common->wrong, 1);
		printf("page %#llx: %llu wrong, seeds %#llx and %#llx, EACCEPT of %#llx\n",
		       (unsigned long long)(asked[i].page - e.base), (unsigned long long)asked[i].wrong,
		       (unsigned long long)asked[i].before, (unsigned long long)asked[i].after,
		       (unsigned long long)asked[i].flags);
		fflush(stdout);
		_exit(2);
	}
	add(&common->pages, count);
}

static struct ask ask_page(uint64_t page, uint64_t after)
{
	struct ask a = { in(&e, file.data + page * PAGE), 0, seeds[page], after, 0 };

	if (after)
		seeds[page] = after;
	return a;
}

/* Until all is done: the driver says EAGAIN or EBUSY while a page is on its way out, and stops for a signal. */
static void change(unsigned long code, uint64_t at)
{
	uint64_t end = at + GROWN * PAGE;

	pthread_mutex_lock(&ioctls);
	while (at < end) {
		struct sgx_enclave_modify_types modified = { at, end - at, SECINFO_TRIM >> 8, 0, 0 };
		struct sgx_enclave_remove_pages removed = { at, end - at, 0 };
		int result = ioctl(e.fd, code, code == SGX_IOC_ENCLAVE_REMOVE_PAGES ? (void *)&removed : &modified);

		if (result < 0 && errno != EAGAIN && errno != EBUSY && errno != EINTR)
			WORKS(result);
		CHECK(modified.result, 0);
		at += modified.count + removed.count;
	}
	pthread_mutex_unlock(&ioctls);
}

/* Pages that the enclave accepts, uses, and gives back. */
static void grow(int thread, uint64_t seed)
{
	uint64_t at = file.size - (uint64_t)(thread + 1) * GROWN * PAGE;
	struct ask asked[4 * GROWN];

	for (uint64_t i = 0; i < GROWN; i++) {
		uint64_t page = in(&e, at + i * PAGE);

		asked[i] = (struct ask){ page, SECINFO_RW | SECINFO_PENDING, 0, 0, 0 };
		asked[GROWN + i] = (struct ask){ page, 0, 0, seed + i, 0 };
		asked[2 * GROWN + i] = (struct ask){ page, 0, seed + i, 0, 0 };
		asked[3 * GROWN + i] = (struct ask){ page, SECINFO_TRIM | SECINFO_MODIFIED, 0, 0, 0 };
	}
	asks(thread, asked, 3 * GROWN);
	change(SGX_IOC_ENCLAVE_MODIFY_TYPES, at);
	asks(thread, asked + 3 * GROWN, GROWN);
	change(SGX_IOC_ENCLAVE_REMOVE_PAGES, at);
	add(&common->grown, GROWN);
}

static void *work(void *data)
{
	int thread = (int)(intptr_t)data;
	uint64_t state = ((uint64_t)getpid() << 8) + (uint64_t)thread, own = (file.pages - CONSTANT) / THREADS;

	while (!leave && !common->stop) {
		struct ask asked[AT_ONCE];

		for (int i = 0; i < AT_ONCE; i++) {
			uint64_t mine = CONSTANT + (uint64_t)thread * own + any(&state) % own;

			if (i % 4 == 3)
				asked[i] = ask_page(any(&state) % CONSTANT, 0);
			else
				asked[i] = ask_page(mine, i % 4 ? any(&state) | 1 : 0);
		}
		asks(thread, asked, AT_ONCE);
		turns[thread]++;
		if (turns[thread] % 16 == 0)
			grow(thread, any(&state) | 1);
	}
	/* All of it once more, if nobody ends it. */
	for (uint64_t i = 0; common->stop && i < own; i++) {
		struct ask last = ask_page(CONSTANT + (uint64_t)thread * own + i, 0);

		asks(thread, &last, 1);
		turns[thread]++;
	}
	return NULL;
}

static void look(uint64_t state)
{
	for (int i = 0; i < 32; i++) {
		struct ask a = ask_page(any(&state) % CONSTANT, 0);

		asks(CHILD_THREAD, &a, 1);
	}
}

static void fork_once(uint64_t state)
{
	int status;
	pid_t child = (pid_t)WORKS(fork());

	if (!child) {
		signal(SIGALRM, SIG_DFL);
		alarm(STUCK);
		look(state);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0)
		CHECK(errno, EINTR);
	CHECK(status, 0);
	add(&common->forks, 1);
}

static void every(int which, int number, long microseconds)
{
	struct itimerval often = { { 0, microseconds }, { 0, microseconds } };
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = tick;
	action.sa_flags = SA_RESTART;
	WORKS(sigaction(number, &action, NULL));
	WORKS(setitimer(which, &often, NULL));
}

/* A process, for so many milliseconds. */
static void process(int number, const char *path, uint64_t attributes, long life)
{
	pthread_t threads[THREADS];
	uint64_t before[THREADS] = { 0 }, state = (uint64_t)getpid();
	long stuck = 0;

	load(path, attributes);
	for (uint64_t i = 0; i < CONSTANT; i++) {
		struct ask first = ask_page(i, any(&state) | 1);

		asks(0, &first, 1);
	}
	every(ITIMER_PROF, SIGPROF, 3000);
	every(ITIMER_REAL, SIGALRM, 5000);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i), 0);
	common->ready[number] = 1;
	for (long passed = 0; !common->stop && passed < life; passed += 250) {
		int moves = 1;

		milliseconds(250);
		fork_once(any(&state));
		for (int i = 0; i < THREADS; i++)
			moves &= turns[i] != before[i] || !passed;
		for (int i = 0; i < THREADS; i++)
			before[i] = turns[i];
		stuck = moves ? 0 : stuck + 250;
		if (stuck >= STUCK * 1000) {
			printf("process %d is stuck\n", number);
			exit(3);
		}
	}
	if (!common->stop)
		exit(number % 4 ? 0 : (leave = 1, 0)); /* threads are inside */
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL), 0);
	exit(0);
}

int main(int argc, char **argv)
{
	pid_t pids[MOST] = { 0 };
	int count = argc > 2 ? atoi(argv[2]) : 2, alive = 0;
	long seconds = argc > 3 ? atol(argv[3]) : 5, started = (long)time(NULL);
	uint64_t state = 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(count <= MOST, 1);
	common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (;;) {
		int status;
		pid_t ended;

		common->stop = (long)time(NULL) - started >= seconds;
		for (int i = 0; i < count && !common->stop; i++) {
			long life = 2000 + (long)(any(&state) % 8000);

			if (pids[i])
				continue;
			fflush(stdout);
			common->ready[i] = 0;
			pids[i] = (pid_t)WORKS(fork());
			if (!pids[i])
				process(i, argv[1], strtoul(argc > 4 ? argv[4] : "0", NULL, 0), life);
			alive++;
			common->started++;
		}
		/* One in a hundred looks kills somebody. */
		if (!common->stop && any(&state) % 100 == 0) {
			int i = (int)(any(&state) % (uint64_t)count);

			if (pids[i] && common->ready[i]) {
				WORKS(kill(pids[i], SIGKILL));
				common->killed++;
			}
		}
		while (alive && (ended = waitpid(-1, &status, WNOHANG)) > 0) {
			for (int i = 0; i < count; i++)
				if (pids[i] == ended)
					pids[i] = 0;
			alive--;
			if (status != SIGKILL)
				CHECK(status, 0);
			common->exited++;
		}
		if (common->stop && !alive)
			break;
		milliseconds(20);
	}
	CHECK(common->wrong, 0);
	printf("pages %llu ticks %llu forks %llu grown %llu started %llu killed %llu\n", (unsigned long long)common->pages,
	       (unsigned long long)common->ticks, (unsigned long long)common->forks, (unsigned long long)common->grown,
	       (unsigned long long)common->started, (unsigned long long)common->killed);
	return success();
}
