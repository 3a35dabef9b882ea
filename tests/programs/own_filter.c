/*
 * A program with seccomp filters of its own, as sandboxed programs have. What the supervisor's image calls in between
 * must be nothing that such a filter kills for; its traps come to the program's own handler.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define IS(number, verdict)                                \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, verdict)
#define CHECK(what)                                           \
	do {                                                  \
		if (!(what)) {                                \
			printf("%d: " #what "\n", __LINE__); \
			return 1;                             \
		}                                             \
	} while (0)

static volatile int seen_call, seen_data;

static void trapped(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	seen_call = info->si_syscall;
	seen_data = info->si_errno;
	uc->uc_mcontext.gregs[REG_RAX] = number == SIGSYS ? 1234 : -EINVAL;
}

int main(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		IS(SYS_process_vm_readv, SECCOMP_RET_KILL_PROCESS),
		IS(SYS_process_vm_writev, SECCOMP_RET_KILL_PROCESS),
		IS(SYS_ptrace, SECCOMP_RET_KILL_PROCESS),
		IS(SYS_getppid, SECCOMP_RET_TRAP | 77),
		IS(SYS_mkdir, SECCOMP_RET_ERRNO | EROFS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };
	struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO }, old;
	struct stat is;
	sigset_t set, before;
	int fd;

	CHECK(!sigaction(SIGSYS, &action, NULL));
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	CHECK(syscall(SYS_getppid) == 1234);
	CHECK(seen_call == SYS_getppid && seen_data == 77);
	CHECK(mkdir("/tmp", 0700) == -1 && errno == EROFS);
	CHECK(!stat("/", &is) && S_ISDIR(is.st_mode));
	CHECK(stat("/proc/nonexistent", &is) == -1 && errno == ENOENT);
	CHECK(stat((const char *)8, &is) == -1 && errno == EFAULT);
	CHECK((fd = open("/proc/cpuinfo", O_RDONLY)) >= 0 && !close(fd));
	CHECK(!sigaction(SIGSYS, NULL, &old) && old.sa_sigaction == trapped && old.sa_flags & SA_SIGINFO);
	sigfillset(&set);
	CHECK(!sigprocmask(SIG_SETMASK, &set, &before) && !sigismember(&before, SIGSYS));
	CHECK(!sigprocmask(SIG_SETMASK, NULL, &set) && sigismember(&set, SIGTERM));
	CHECK(!access("/", R_OK));
	CHECK(!sigprocmask(SIG_SETMASK, &before, NULL));
	if (!fork()) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(9);
	}
	puts("EXIT-SUCCESS");
	return 0;
}
