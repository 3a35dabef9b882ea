/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at its own vDSO, as programs do. The first argument says what to look at:
 *   base     where it is
 *   names    the symbols by DT_HASH, with their versions, and what __vdso_sgx_enter_enclave answers without an enclave
 *   quiet    libc's time functions, and each by its symbol, with a filter that refuses their system calls
 *   loader   what the dynamic loader knows of it (not in static programs: compile with -DSTATIC)
 *   unwind   unwinds from each instruction of the image, in functions that are single-stepped
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

typedef int (*enter_t)(uint64_t, uint64_t, uint64_t, unsigned int, uint64_t, uint64_t, void *);

static const char *base;
static const Elf64_Sym *symbols;
static const char *names;
static const Elf64_Word *hash;
static const Elf64_Half *versions;
static const Elf64_Verdef *definitions;

/* As the kernel's selftest for SGX does: offsets and addresses alike are added to the base. */
static int find_tables(void)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(base + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;

	for (int i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_DYNAMIC)
			dynamic = (const Elf64_Dyn *)(base + segment[i].p_offset);
	if (!dynamic)
		return 0;
	for (; dynamic->d_tag; dynamic++) {
		const void *at = base + dynamic->d_un.d_ptr;

		if (dynamic->d_tag == DT_SYMTAB)
			symbols = at;
		else if (dynamic->d_tag == DT_STRTAB)
			names = at;
		else if (dynamic->d_tag == DT_HASH)
			hash = at;
		else if (dynamic->d_tag == DT_VERSYM)
			versions = at;
		else if (dynamic->d_tag == DT_VERDEF)
			definitions = at;
	}
	return symbols && names && hash && versions && definitions;
}

static const char *version_of(Elf64_Word symbol)
{
	const Elf64_Verdef *d = definitions;

	for (;; d = (const Elf64_Verdef *)((const char *)d + d->vd_next)) {
		if (d->vd_ndx == (versions[symbol] & 0x7fff))
			return names + ((const Elf64_Verdaux *)((const char *)d + d->vd_aux))->vda_name;
		if (!d->vd_next)
			return "?";
	}
}

static unsigned long elf_hash(const char *name)
{
	unsigned long h = 0, high;

	while (*name) {
		h = (h << 4) + (unsigned char)*name++;
		high = h & 0xf0000000;
		h ^= high >> 24;
		h &= ~high;
	}
	return h;
}

static void *find(const char *name)
{
	const Elf64_Word *chain = hash + 2 + hash[0];

	for (Elf64_Word i = hash[2 + elf_hash(name) % hash[0]]; i; i = chain[i])
		if (!strcmp(names + symbols[i].st_name, name) && symbols[i].st_shndx)
			return (void *)(base + symbols[i].st_value);
	return NULL;
}

static int look_at_names(void)
{
	unsigned char run[256] = { 0 };
	enter_t enter = (enter_t)find("__vdso_sgx_enter_enclave");

	for (Elf64_Word i = 1; i < hash[1]; i++)
		if (symbols[i].st_shndx != SHN_ABS && find(names + symbols[i].st_name))
			printf("%s@@%s\n", names + symbols[i].st_name, version_of(i));
	if (enter) {
		printf("enter %d", enter(0, 0, 0, 1, 0, 0, run));
		printf(" %d", enter(0, 0, 0, 4, 0, 0, run));
		run[255] = 1;
		printf(" %d\n", enter(0, 0, 0, 2, 0, 0, run));
	}
	return 0;
}

/* Their system calls fail with EDOM from here on. */
static int refuse_system_calls(void)
{
	static const int refused[] = { SYS_clock_gettime, SYS_gettimeofday, SYS_time, SYS_getcpu };
	struct sock_filter code[16];
	struct sock_fprog program = { .filter = code };
	int n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned int i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = n;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int between(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec <= b->tv_nsec);
}

static int look_at_calls(void)
{
	int (*gettime)(clockid_t, struct timespec *) = find("__vdso_clock_gettime");
	int (*getres)(clockid_t, struct timespec *) = find("__vdso_clock_getres");
	int (*gettimeofday_)(struct timeval *, void *) = find("__vdso_gettimeofday");
	time_t (*time_)(time_t *) = find("__vdso_time");
	int (*getcpu_)(unsigned int *, unsigned int *, void *) = find("__vdso_getcpu");
	long (*getrandom_)(void *, size_t, unsigned int, void *, size_t) = find("__vdso_getrandom");
	struct timespec before, now, after, kernel;
	struct timeval day;
	unsigned char state[256] = { 0 };
	unsigned int cpu = 99999, node = 99999;
	cpu_set_t one;
	time_t stored = 0;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &before);
	printf("clock_gettime %d", gettime(CLOCK_MONOTONIC, &now));
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &after);
	printf(" %d\n", between(&before, &now) && between(&now, &after));
	printf("of no clock %d\n", gettime(12345, &now));
	syscall(SYS_clock_getres, CLOCK_REALTIME, &kernel);
	printf("clock_getres %d", getres(CLOCK_REALTIME, &now));
	printf(" %d\n", now.tv_sec == kernel.tv_sec && now.tv_nsec == kernel.tv_nsec);

	syscall(SYS_clock_gettime, CLOCK_REALTIME_COARSE, &before);
	printf("gettimeofday %d", gettimeofday_(&day, NULL));
	printf(" %d", time_(&stored) == stored);
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &after);
	printf(" %d", before.tv_sec <= day.tv_sec && day.tv_sec <= after.tv_sec);
	printf(" %d\n", before.tv_sec <= stored && stored <= after.tv_sec);
	printf("getcpu %d", getcpu_(&cpu, &node, NULL));
	printf(" %d %d\n", CPU_ISSET(cpu, &one), node != 99999);
	if (getrandom_)
		printf("getrandom %ld\n", getrandom_(NULL, 0, 0, state, ~0ul));

	if (refuse_system_calls()) {
		puts("no filter here");
		return 0;
	}
	printf("refused %ld", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now));
	printf(" %d\n", errno == EDOM);
	for (int i = 0; i < 100; i++) {
		if (gettime(CLOCK_MONOTONIC, &now) || clock_gettime(CLOCK_REALTIME, &now))
			return puts("clock_gettime made a system call"), 0;
		if (gettimeofday_(&day, NULL) || gettimeofday(&day, NULL))
			return puts("gettimeofday made a system call"), 0;
		if (time_(NULL) <= 0 || time(NULL) <= 0)
			return puts("time made a system call"), 0;
		if (getcpu_(&cpu, NULL, NULL) || sched_getcpu() < 0)
			return puts("getcpu made a system call"), 0;
	}
	puts("no system call");
	return 0;
}

#ifndef STATIC
static int object(struct dl_phdr_info *info, size_t size, void *seen)
{
	(void)size;
	if (strcmp(info->dlpi_name, "linux-vdso.so.1"))
		return 0;
	*(int *)seen = 1;
	printf("listed %d\n", info->dlpi_addr == (uintptr_t)base);
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
			printf("eh_frame_hdr %d\n", *(const unsigned char *)(base + info->dlpi_phdr[i].p_vaddr));
	return 0;
}

static int look_at_loader(void)
{
	void *opened = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
	void *found;
	int seen = 0;
	Dl_info info;

	dl_iterate_phdr(object, &seen);
	if (!seen)
		puts("not listed");
	if (!opened)
		return puts(dlerror()), 0;
	found = dlvsym(opened, "__vdso_clock_gettime", "LINUX_2.6");
	printf("dlvsym %d %d\n", found == find("__vdso_clock_gettime"), !dlvsym(opened, "__vdso_time", "LINUX_2.5"));
	memset(&info, 0, sizeof(info));
	printf("dladdr %d", dladdr((char *)find("__vdso_getcpu") + 1, &info));
	printf(" %s %s %d\n", info.dli_fname, info.dli_sname, info.dli_fbase == base);
	if (find("__vdso_sgx_enter_enclave")) {
		found = dlvsym(opened, "__vdso_sgx_enter_enclave", "LINUX_2.6");
		printf("enter %d\n", found == find("__vdso_sgx_enter_enclave"));
	}
	return 0;
}
#endif

/*
 * int stepped(function, run): the call function(0, &timespec-or-0, 0, 1, 0, 0, run) with TF set, and known values in the
 * registers that a function must keep. stepped_cfa is its frame's.
 */
#define KEPT_RBX 0x1111222233334444ul
#define KEPT_RBP 0x5555666677778888ul
extern const char stepped[], stepped_end[];
uint64_t stepped_cfa;
struct timespec stepped_time;
__asm__("	.text\n"
	"	.type	stepped, @function\n"
	"stepped:\n"
	"	.cfi_startproc\n"
	"	pushq	%rbx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %rbx, 0\n"
	"	pushq	%rbp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %rbp, 0\n"
	"	leaq	24(%rsp), %rax\n"
	"	movq	%rax, stepped_cfa(%rip)\n"
	"	movabsq	$0x1111222233334444, %rbx\n"
	"	movabsq	$0x5555666677778888, %rbp\n"
	"	movq	%rdi, %r11\n"
	"	pushq	%rsi\n" /* run: the seventh argument */
	"	.cfi_adjust_cfa_offset 8\n"
	"	xorl	%edi, %edi\n"
	"	leaq	stepped_time(%rip), %rsi\n"
	"	xorl	%edx, %edx\n"
	"	movl	$1, %ecx\n"
	"	pushfq\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	orl	$0x100, (%rsp)\n"
	"	popfq\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	call	*%r11\n"
	"	pushfq\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	andl	$~0x100, (%rsp)\n"
	"	popfq\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%rsi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%rbp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %rbp\n"
	"	popq	%rbx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %rbx\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"stepped_end:\n");

static volatile int steps, unwound;

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *found)
{
	uintptr_t ip = _Unwind_GetIP(context);

	if (ip < (uintptr_t)stepped || ip >= (uintptr_t)stepped_end)
		return _URC_NO_REASON;
	/* libgcc's CFA of a context is that of the frame it has called: RSP at the call's return. */
	if (_Unwind_GetGR(context, 3) == KEPT_RBX && _Unwind_GetGR(context, 6) == KEPT_RBP &&
	    _Unwind_GetCFA(context) == stepped_cfa - 32)
		*(int *)found = 1;
	return _URC_NORMAL_STOP;
}

static void trapped(int signal, siginfo_t *info, void *context)
{
	uintptr_t ip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	int found = 0;

	(void)signal;
	(void)info;
	if (ip - (uintptr_t)base >= 0x10000)
		return;
	steps++;
	_Unwind_Backtrace(frame, &found);
	unwound += found;
	if (!found)
		printf("lost at %#lx\n", ip - (uintptr_t)base);
}

static int look_at_unwinding(void)
{
	struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };
	int (*step)(void *, void *) = (int (*)(void *, void *))(uintptr_t)stepped;
	unsigned char run[256] = { 0 };
	static const char *const called[] = { "__vdso_clock_gettime", "__vdso_time", "__vdso_sgx_enter_enclave" };

	sigaction(SIGTRAP, &action, NULL);
	for (unsigned int i = 0; i < sizeof(called) / sizeof(*called); i++) {
		void *function = find(called[i]);

		if (!function)
			continue;
		steps = unwound = 0;
		step(function, run);
		printf("%s %d %d\n", called[i], steps > 0, steps == unwound);
	}
	return 0;
}

int main(int argc, char **argv)
{
	base = (const char *)getauxval(AT_SYSINFO_EHDR);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2 || !base || !find_tables()) {
		puts("no vDSO");
		return 1;
	}
	if (!strcmp(argv[1], "base")) {
		printf("%lx\n", (uintptr_t)base);
		return 0;
	}
	if (!strcmp(argv[1], "names"))
		return look_at_names();
	if (!strcmp(argv[1], "quiet"))
		return look_at_calls();
#ifndef STATIC
	if (!strcmp(argv[1], "loader"))
		return look_at_loader();
#endif
	if (!strcmp(argv[1], "unwind"))
		return look_at_unwinding();
	return 2;
}
