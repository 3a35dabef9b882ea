/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls of the monitor, raw: no libc, no errno, no thread-local storage.
 * This is the only place where the monitor's C contains a SYSCALL instruction.
 */
#ifndef SWSGX_SYS_H
#define SWSGX_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <asm/unistd.h>

static inline long sys_call4(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}

static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static inline long sys_mmap(uint64_t address, size_t length, int prot, int flags, int fd, uint64_t offset)
{
	return sys_call6(__NR_mmap, (long)address, (long)length, prot, flags, fd, (long)offset);
}

static inline long sys_mremap(uint64_t address, size_t length, int flags, uint64_t to)
{
	return sys_call6(__NR_mremap, (long)address, (long)length, (long)length, flags, (long)to, 0);
}

static inline long sys_prctl(long option, long a, long b, long c, const void *d)
{
	return sys_call6(__NR_prctl, option, a, b, c, (long)d, 0);
}

static inline long sys_open(const char *path, int flags)
{
	return sys_call4(__NR_open, (long)path, flags, 0, 0);
}

static inline long sys_close(int fd)
{
	return sys_call4(__NR_close, fd, 0, 0, 0);
}

static inline long sys_pwrite(int fd, const void *data, size_t length, uint64_t offset)
{
	return sys_call4(__NR_pwrite64, fd, (long)data, (long)length, (long)offset);
}

static inline long sys_sched_yield(void)
{
	return sys_call4(__NR_sched_yield, 0, 0, 0, 0);
}

static inline long sys_gettid(void)
{
	return sys_call4(__NR_gettid, 0, 0, 0, 0);
}

static inline long sys_getpid(void)
{
	return sys_call4(__NR_getpid, 0, 0, 0, 0);
}

static inline long sys_tgkill(long pid, long tid, long signal)
{
	return sys_call4(__NR_tgkill, pid, tid, signal, 0);
}

static inline long sys_mprotect(uint64_t address, size_t length, int prot)
{
	return sys_call4(__NR_mprotect, (long)address, (long)length, prot, 0);
}

static inline long sys_sigaction(int signal, const void *set, void *old)
{
	return sys_call4(__NR_rt_sigaction, signal, (long)set, (long)old, 8);
}

static inline long sys_sigprocmask(int how, const uint64_t *set, uint64_t *old)
{
	return sys_call4(__NR_rt_sigprocmask, how, (long)set, (long)old, 8);
}

static inline long sys_sigaltstack(const void *set, void *old)
{
	return sys_call4(__NR_sigaltstack, (long)set, (long)old, 0, 0);
}

/*
 * The same while a handler runs on the present one, which the kernel refuses by what RSP is: then RSP is something
 * else meanwhile. Signals are blocked.
 */
static inline long sys_sigaltstack_in_use(const void *set)
{
	long result;

	__asm__ volatile("movq %%rsp, %%r8\n\txorl %%esp, %%esp\n\tsyscall\n\tmovq %%r8, %%rsp"
			 : "=a"(result)
			 : "0"((long)__NR_sigaltstack), "D"(set), "S"(0l)
			 : "rcx", "r8", "r11", "cc", "memory");
	return result;
}

#endif
