// SPDX-License-Identifier: Apache-2.0
/* Path calls in every situation where a trapped call's signal could be blocked; does the same everywhere. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static int opened;
static sigjmp_buf jump;

#define CHECK(x)                                                                    \
	do {                                                                        \
		if (!(x)) {                                                         \
			printf("line %d: %s (errno %d)\n", __LINE__, #x, errno);    \
			exit(1);                                                    \
		}                                                                   \
	} while (0)

static void open_and_close(void)
{
	int fd = open("/dev/null", O_RDWR);

	CHECK(fd >= 0 && !close(fd) && !access("/", F_OK));
	opened++;
}

static void on_signal(int number)
{
	(void)number;
	open_and_close();
}

static void on_jump(int number)
{
	open_and_close();
	siglongjmp(jump, number);
}

static void *thread(void *argument)
{
	for (int i = 0; i < 200; i++)
		open_and_close();
	return argument;
}

static void install(int number, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags }, got;

	sigfillset(&action.sa_mask);
	CHECK(!sigaction(number, &action, NULL));
	CHECK(!sigaction(number, NULL, &got) && got.sa_handler == handler);
	CHECK((got.sa_flags & ~0x04000000) == flags);
	CHECK(sigismember(&got.sa_mask, SIGUSR2));
}

static void waits(void)
{
	struct timespec soon = { .tv_nsec = 50000000 };
	struct epoll_event event;
	sigset_t most, all, old;
	int epoll = epoll_create1(0), before;

	sigfillset(&all);
	sigfillset(&most);
	sigdelset(&most, SIGALRM);
	CHECK(!sigprocmask(SIG_SETMASK, &all, &old));
	for (int i = 0; i < 4; i++) {
		before = opened;
		raise(SIGALRM);
		errno = 0;
		CHECK((i == 0 ? sigsuspend(&most) : i == 1 ? ppoll(NULL, 0, &soon, &most) :
		       i == 2 ? pselect(0, NULL, NULL, NULL, &soon, &most) :
				epoll_pwait(epoll, &event, 1, 50, &most)) == -1 && errno == EINTR);
		CHECK(opened == before + 1);
	}
	CHECK(ppoll(NULL, 0, &soon, NULL) == 0);
	CHECK(sigismember(&old, SIGALRM) == 0 && !sigprocmask(SIG_SETMASK, &old, NULL));
}

static void bad_pointers(void)
{
	CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 8, NULL, 8) == -1 && errno == EFAULT);
	CHECK(syscall(SYS_rt_sigprocmask, 77, &opened, NULL, 8) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &opened, NULL, 4) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_rt_sigaction, SIGUSR1, 8, NULL, 8) == -1 && errno == EFAULT);
	CHECK(syscall(SYS_rt_sigaction, SIGKILL, &(struct { long a[4]; }){ 0 }, NULL, 8) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_rt_sigaction, SIGSYS, NULL, NULL, 4) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_open, 8, O_RDONLY) == -1 && errno == EFAULT);
	CHECK(open("/proc/nonexistent", O_RDONLY) == -1 && errno == ENOENT);
}

static void own_sigsys(void)
{
	struct sigaction mine = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, got;
	int before;

	CHECK(!sigaction(SIGSYS, NULL, &got) && got.sa_handler == SIG_DFL);
	CHECK(!sigaction(SIGSYS, &mine, &got) && got.sa_handler == SIG_DFL);
	CHECK(!sigaction(SIGSYS, NULL, &got) && got.sa_handler == on_signal);
	before = opened;
	CHECK(!raise(SIGSYS) && opened == before + 1);
	open_and_close();
	mine.sa_handler = SIG_IGN;
	CHECK(!sigaction(SIGSYS, &mine, NULL) && !raise(SIGSYS));
	open_and_close();
	CHECK(signal(SIGSYS, SIG_DFL) == SIG_IGN);
}

static void spawns(void)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char *words[] = { "true", NULL };
	sigset_t all;
	pid_t child;
	int status;

	sigfillset(&all);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &all);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	for (int i = 0; i < 10; i++) {
		CHECK(!posix_spawnp(&child, "true", &actions, &attributes, words, environ));
		CHECK(waitpid(child, &status, 0) == child && status == 0);
		open_and_close();
	}
	CHECK(posix_spawn(&child, "/proc/nonexistent", NULL, NULL, words, environ) == ENOENT);
	child = fork();
	if (!child) {
		open_and_close();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
	static char memory[65536];
	stack_t stack = { .ss_sp = memory, .ss_size = sizeof(memory) }, now;
	pthread_t threads[4];
	sigset_t all;

	sigfillset(&all);
	open_and_close();
	install(SIGALRM, on_signal, 0);
	install(SIGUSR1, on_jump, SA_NODEFER);
	raise(SIGALRM);
	for (int i = 0; i < 100; i++)
		if (!sigsetjmp(jump, 1))
			raise(SIGUSR1);
	waits();
	bad_pointers();
	own_sigsys();
	spawns();
	CHECK(!sigaltstack(&stack, NULL));
	open_and_close();
	CHECK(!sigaltstack(NULL, &now) && now.ss_sp == memory && now.ss_flags == 0);
	install(SIGALRM, on_signal, SA_ONSTACK);
	raise(SIGALRM);
	CHECK(!sigaltstack(NULL, &now) && now.ss_sp == memory && now.ss_flags == 0);
	CHECK(!pthread_sigmask(SIG_BLOCK, &all, NULL));
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, thread, NULL));
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_join(threads[i], NULL));
	open_and_close();
	puts("EXIT-SUCCESS");
	return 0;
}
