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

#endif
