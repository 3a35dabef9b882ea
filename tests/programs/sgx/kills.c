/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests that kill: threads that load enclaves, enter them and give them back, while children do the same, become
 * other programs, outlive their parents, and get enclaves as messages. Never ends by itself: the first argument is how
 * many milliseconds it goes on, and a child as long at most. What dies of it all is not noticed.
 */
#include "sgx.h"

#include <sys/prctl.h>

#define THREADS 3

static struct timespec end;
/* mmap of MAP_FIXED into what another thread has just given back would be no enclave's. */
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

static int over(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec > end.tv_nsec);
}

static void use(const struct enclave *e, int thread)
{
	uint64_t sum = 0;

	for (int i = 0; i < 50; i++) {
		CLEAN(e, thread, OP_ADD, i, 5, &sum);
		CHECK(sum, i + 5);
	}
	EXCEPTION(e, thread, OP_UD2, 0, 0, 0, 6, 0, 0);
	CLEAN(e, thread, OP_FRAME_ADD, FRAME_RIP, 2, 0);
	RESUMES(e, thread);
}

static void once(void)
{
	struct enclave e;

	pthread_mutex_lock(&loading);
	e = initialised(0);
	map_all(&e);
	pthread_mutex_unlock(&loading);
	use(&e, 0);
	munmap((void *)e.base, ENCLAVE_SIZE);
	close(e.fd);
}

static void *again_and_again(void *unused)
{
	while (!over())
		once();
	return unused;
}

static void send_fd(int to, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { (char *)"x", 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	sendmsg(to, &message, MSG_NOSIGNAL);
}

static void child(int kind, const struct enclave *shared, int to)
{
	switch (kind) {
	case 0: /* as its parent */
		again_and_again(NULL);
		break;
	case 1: /* another program, now and then */
		once();
		execl("/bin/true", "true", (char *)NULL);
		break;
	case 2: /* a daemon */
		setsid();
		if (!fork())
			again_and_again(NULL);
		break;
	case 3: /* with its parent's enclave, which it has mapped */
		use(shared, 1);
		again_and_again(NULL);
		break;
	case 4: { /* a message, which may be never read */
		struct enclave e = built(0);

		send_fd(to, e.fd);
		once();
		break;
	}
	default: /* dies in a program that cannot be, and by a signal */
		execl("/proc/nonexistent", "x", (char *)NULL);
		raise(SIGKILL);
	}
}

int main(int argc, char **argv)
{
	long length = argc > 1 ? atol(argv[1]) : 1000;
	struct enclave shared;
	pthread_t threads[THREADS];
	int pair[2];

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += length / 1000;
	end.tv_nsec += length % 1000 * 1000000;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	find_vdso();
	WORKS(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
	shared = loaded();
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, again_and_again, NULL), 0);
	for (int kind = 0; !over(); kind = (kind + 1) % 6) {
		pid_t pid;

		/* Not while a thread has the lock: a child would wait for it forever. */
		pthread_mutex_lock(&loading);
		pid = fork();
		if (!pid) {
			pthread_mutex_init(&loading, NULL);
			child(kind, &shared, pair[1]);
			_exit(0);
		}
		pthread_mutex_unlock(&loading);
		if (kind == 4 && pid > 0)
			waitpid(pid, NULL, 0); /* it has sent */
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		milliseconds(5);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	return success();
}
