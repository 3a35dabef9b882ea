// SPDX-License-Identifier: Apache-2.0
/*
 * System calls that the supervisor's filters trap (RET_TRAP): SIGSYS comes, and the call is looked at here, in the
 * program's own process. What cannot concern SGX is made again from this image, whose calls the filters let through;
 * the rest goes to the supervisor, which serves it or says that it is none of its own.
 *
 * What was learnt, and what this file relies on:
 *  - in an unarmed process the handler has an empty mask and SA_NODEFER: a call made again here may block, and the
 *    program's own handlers may run on top, make trapped calls, and leave by siglongjmp. Nothing is locked, nothing
 *    left half done.
 *  - SA_ONSTACK: Go's stacks are too small for a frame. Without an alternate stack the program's is used, below the
 *    red zone.
 *  - in an armed process the monitor's handler comes here, with all signals blocked (supervised.h).
 *  - an open file of a node is known by what fstat(2) says of it, in whatever process it turns up, by whatever way.
 */
#include "supervised.h"

#include "../vdso/vdso.h"
#include "cpuid.h"
#include "sys.h"

#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/ptrace.h>

/* As in <linux/stat.h>, which does not say so beside a libc. */
#define MODE_TYPE 0170000
#define MODE_FOLDER 0040000
#define MODE_LINK 0120000
#define PATH_BYTES 4096ul
#define PATH_CHUNK 256ul
#define NAME_BYTES 16ul /* the longest name that tells, and one */
#define CLONE_VM 0x100ul

/* Whether a name, or what is left of it, is this one. */
static bool is(const char *name, uint64_t length, const char *word)
{
	while (length && *word && *name == *word) {
		name++;
		word++;
		length--;
	}
	return !length && !*word;
}

/* Directories of NUMA nodes in sysfs: node and a number. */
static bool is_numa(const char *name, uint64_t length)
{
	if (length < 5 || !is(name, 4, "node"))
		return false;
	for (uint64_t i = 4; i < length; i++)
		if (name[i] < '0' || name[i] > '9')
			return false;
	return true;
}

/*
 * Names in paths that the supervisor may have to do with: nodes, descriptors, and what tells of SGX in /proc and /sys.
 * Projects that are about SGX have folders of such names: then it depends on what follows. "task" is whether a process's
 * folder in /proc can be in front.
 */
static bool is_telling(const char *name, uint64_t length, bool last, bool task)
{
	if (is(name, length, "mem"))
		return last && task;
	if (is(name, length, "enclave") || is(name, length, "provision") || is(name, length, "sgx"))
		return last;
	if (is(name, length, "fd"))
		return !last;
	return is(name, length, "sgx_enclave") || is(name, length, "sgx_provision") ||
	       is(name, length, "sgx_total_bytes") || is(name, length, "cpuinfo") || is(name, length, "misc") ||
	       is(name, length, "10:125") || is(name, length, "10:126") || is_numa(name, length);
}

/* Whether a folder of this name in /proc can be a process's, or a thread's. */
static bool is_task(const char *name, uint64_t length)
{
	for (uint64_t i = 0; i < length; i++)
		if (name[i] < '0' || name[i] > '9')
			return is(name, length, "self") || is(name, length, "thread-self");
	return true;
}

/* A path, name by name, with so much as the names that count can have. */
struct path_reader {
	char name[NAME_BYTES];
	uint64_t length; /* of the name so far; NAME_BYTES: too long to count */
	uint64_t names;
	bool telling_if_last;
	bool telling;
	bool task; /* the name before can be a process's folder, or there was none */
	bool dev; /* all of it is /dev */
};

static void name_ends(struct path_reader *path, bool at_end)
{
	const bool dots = is(path->name, path->length, ".") || is(path->name, path->length, "..");

	if (path->length && path->length < NAME_BYTES) {
		path->telling |= is_telling(path->name, path->length, at_end, path->task);
		/* Nothing but slashes and dots may follow. */
		if (!dots)
			path->telling_if_last = is_telling(path->name, path->length, true, path->task);
		path->dev = path->names == 0 && is(path->name, path->length, "dev");
		path->task = dots || is_task(path->name, path->length);
	} else if (path->length) {
		path->telling_if_last = path->dev = path->task = false;
	}
	if (path->length)
		path->names++;
	if (at_end)
		path->telling |= path->telling_if_last || path->dev;
	path->length = 0;
}

/* Whether a path can be one that the supervisor answers for. In doubt, yes. */
static bool concerns_path(uint64_t path)
{
	struct path_reader reader = { .task = true };
	char text[PATH_CHUNK];
	uint64_t done = 0;

	while (done < PATH_BYTES) {
		uint64_t room = PAGE_BYTES - ((path + done) & (PAGE_BYTES - 1));
		uint64_t length = room < PATH_CHUNK ? room : PATH_CHUNK;

		if (copy_in(text, path + done, length))
			return false; /* the call itself says EFAULT */
		for (uint64_t i = 0; i < length; i++) {
			if (text[i] && text[i] != '/') {
				if (reader.length < NAME_BYTES)
					reader.name[reader.length++] = text[i];
				continue;
			}
			name_ends(&reader, !text[i]);
			if (reader.telling || !text[i])
				return reader.telling;
		}
		done += length;
	}
	return false;
}

/* Whether a file descriptor is of an SGX node. */
static bool concerns_file(uint64_t fd)
{
	struct stat is;

	return !sys_call4(__NR_fstat, (long)fd, (long)&is, 0, 0) && is.st_size == MARK_SIZE &&
	       is.st_mode == MARK_MODE && !is.st_nlink;
}

static bool is_same(const struct stat *a, const char *path, bool file)
{
	struct stat b;

	return !sys_call4(__NR_stat, (long)path, (long)&b, 0, 0) && a->st_dev == b.st_dev &&
	       (!file || a->st_ino == b.st_ino);
}

/* Whether a folder is one that we add to, or one of ours, which has no name. */
static bool concerns_folder(uint64_t fd)
{
	struct stat is;

	if (sys_call4(__NR_fstat, (long)fd, (long)&is, 0, 0) || (is.st_mode & MODE_TYPE) != MODE_FOLDER)
		return false;
	return is.st_nlink < 2 || is_same(&is, "/dev", true) || is_same(&is, "/sys", false);
}

/* The folder above one of ours, relative to it. */
static bool is_above(const registers_t *r)
{
	char text[3];

	return (int)r->rdi >= 0 && !copy_in(text, r->rsi, sizeof(text)) && text[0] == '.' && text[1] == '.' && !text[2] &&
	       concerns_folder(r->rdi);
}

/* Whether a symbolic link leads to a path that is neither there nor a node's. In doubt, no. */
static bool leads_nowhere(long folder, uint64_t path)
{
	char text[PATH_CHUNK];
	struct stat is;
	long length = sys_call4(__NR_readlinkat, folder, (long)path, (long)text, sizeof(text));

	if (length <= 0 || length == sizeof(text) || text[0] != '/')
		return false;
	text[length] = 0;
	return !concerns_path((uint64_t)text) && sys_call4(__NR_lstat, (long)text, (long)&is, 0, 0) == ERROR_NO_ENTRY;
}

/* Whether the path of a call that found nothing is a symbolic link that may lead to a node. */
static bool is_dangling_link(const registers_t *r)
{
	struct stat is;
	long folder = AT_FDCWD;
	uint64_t path = r->rdi;

	switch (r->rax) {
	case __NR_open:
	case __NR_stat:
	case __NR_access:
		break;
	case __NR_openat:
	case __NR_openat2:
	case __NR_newfstatat:
	case __NR_statx:
	case __NR_faccessat:
	case __NR_faccessat2:
		folder = (long)r->rdi;
		path = r->rsi;
		break;
	default:
		return false;
	}
	return !sys_call4(__NR_newfstatat, folder, (long)path, (long)&is, AT_SYMLINK_NOFOLLOW) &&
	       (is.st_mode & MODE_TYPE) == MODE_LINK &&
	       sys_call4(__NR_newfstatat, folder, (long)path, (long)&is, 0) == ERROR_NO_ENTRY &&
	       !leads_nowhere(folder, path);
}

/* Whether a range can have enclave mappings in it. */
bool concerns_range(uint64_t address, uint64_t length)
{
	const uint64_t *areas = (const uint64_t *)target_state.areas;

	for (uint32_t i = 0; i < target_state.area_count; i++)
		if (address < areas[2 * i + 1] && areas[2 * i] - address < length + PAGE_BYTES)
			return true;
		else if (address >= areas[2 * i] && address < areas[2 * i + 1])
			return true;
	return false;
}

static bool concerns_mapping(const registers_t *r)
{
	const uint64_t type = r->r10 & MAP_TYPE;

	if (!(r->r10 & MAP_ANONYMOUS) && (type == MAP_SHARED || type == MAP_SHARED_VALIDATE || target_state.armed) &&
	    concerns_file(r->r8))
		return true;
	return r->r10 & (MAP_FIXED | MAP_FIXED_NOREPLACE) && concerns_range(r->rdi, r->rsi);
}

/* As the links in /proc/PID/fd are called. */
static bool is_number(uint64_t path)
{
	char first;

	return !copy_in(&first, path, 1) && first >= '0' && first <= '9';
}

/* Whether it reads or writes what a descriptor is open for. */
static bool moves_bytes(const registers_t *r)
{
	switch (r->rax) {
	case __NR_read:
	case __NR_write:
	case __NR_pread64:
	case __NR_pwrite64:
	case __NR_readv:
	case __NR_writev:
	case __NR_preadv:
	case __NR_pwritev:
	case __NR_preadv2:
	case __NR_pwritev2:
		return true;
	default:
		return false;
	}
}

/* Whether a call of the program's can concern SGX. */
static bool concerns_sgx(const registers_t *r)
{
	switch (r->rax) {
	case __NR_open:
	case __NR_stat:
	case __NR_lstat:
	case __NR_access:
	case __NR_readlink:
		return concerns_path(r->rdi);
	case __NR_getxattr:
	case __NR_lgetxattr:
	case __NR_listxattr:
	case __NR_llistxattr:
		return concerns_path(r->rdi);
	case __NR_newfstatat:
		return (r->r10 & AT_EMPTY_PATH && concerns_file(r->rdi)) || concerns_path(r->rsi) || is_above(r);
	case __NR_statx:
		return (r->rdx & AT_EMPTY_PATH && concerns_file(r->rdi)) || concerns_path(r->rsi);
	case __NR_readlinkat:
		return is_number(r->rsi) || concerns_path(r->rsi);
	case __NR_openat:
	case __NR_openat2:
	case __NR_faccessat:
	case __NR_faccessat2:
		return concerns_path(r->rsi);
	case __NR_ioctl:
	case __NR_fstat:
	case __NR_lseek:
	case __NR_flock:
	case __NR_fsync:
	case __NR_fdatasync:
	case __NR_ftruncate:
	case __NR_fallocate:
	case __NR_copy_file_range:
	case __NR_fcntl:
		return concerns_file(r->rdi);
	case __NR_read:
	case __NR_write:
		return concerns_file(r->rdi) || concerns_memory_file(r);
	case __NR_mmap:
		return concerns_mapping(r);
	case __NR_munmap:
	case __NR_mprotect:
	case __NR_pkey_mprotect:
	case __NR_madvise:
	case __NR_mlock:
	case __NR_munlock:
	case __NR_mlock2:
		return concerns_range(r->rdi, r->rsi);
	case __NR_mremap:
		return concerns_range(r->rdi, r->rsi) || (r->r10 & MREMAP_FIXED && concerns_range(r->r8, r->rdx));
	case __NR_getdents64:
		return concerns_folder(r->rdi);
	case __NR_ptrace:
		return concerns_ptrace(r);
	case __NR_process_vm_readv:
	case __NR_process_vm_writev:
		return concerns_vectors(r);
	default:
		return moves_bytes(r) && concerns_memory_file(r);
	}
}

static bool may_block(const registers_t *r)
{
	switch (r->rax) {
	case __NR_open:
	case __NR_openat:
	case __NR_openat2:
	case __NR_flock:
	case __NR_execve:
	case __NR_execveat:
		return true;
	default:
		return moves_bytes(r);
	}
}

/* Have the program's call made when the handler has returned. */
static struct call_frame *behind_handler(registers_t *r)
{
	struct call_frame *frame = (struct call_frame *)(r->rsp - CALL_FRAME);

	*frame = (struct call_frame){ .back = r->rip, .rdi = r->rdi, .r10 = r->r10, .r8 = r->r8, .r9 = r->r9 };
	r->rsp = (uint64_t)frame;
	r->rip = (uint64_t)call_begin;
	return frame;
}

static void undo_call(registers_t *r, uint64_t rip)
{
	const struct call_frame *frame = (const struct call_frame *)r->rsp;

	r->rdi = frame->rdi;
	r->r10 = frame->r10;
	r->r8 = frame->r8;
	r->r9 = frame->r9;
	r->rcx = frame->back;
	r->rip = rip;
	r->rsp += CALL_FRAME;
}

/* A signal in calls.S: before the call, the program is at its SYSCALL; behind it, behind. */
static void settle_call(registers_t *r)
{
	const struct call_frame *frame = (const struct call_frame *)r->rsp;

	if (r->rip == (uint64_t)call_begin)
		undo_call(r, frame->back - SYSCALL_BYTES);
	else if (r->rip >= (uint64_t)call_made && r->rip <= (uint64_t)call_loaded)
		undo_call(r, frame->back);
	else if (r->rip > (uint64_t)call_loaded && r->rip < (uint64_t)call_end)
		r->rip = r->rcx;
}

static bool is_waiting_call(uint64_t number)
{
	return number == __NR_rt_sigsuspend || number == __NR_ppoll || number == __NR_pselect6 ||
	       number == __NR_epoll_pwait || number == __NR_epoll_pwait2;
}

static void own(int signal);
static void code_mapped(const registers_t *r, long address);

/*
 * prctl of PR_SET_DUMPABLE and PR_GET_DUMPABLE. The supervisor must be able to read the program, so only the program
 * believes that it cannot be read. 0: it has said nothing.
 */
static long dumpable(const registers_t *r)
{
	static uint32_t believed;

	if (r->rdi == PR_GET_DUMPABLE)
		return believed ? (long)believed - 1 : sys_prctl(PR_GET_DUMPABLE, 0, 0, 0, NULL);
	if (r->rsi > 1)
		return ERROR_INVALID;
	believed = (uint32_t)r->rsi + 1;
	return 0;
}

static void serve(struct kernel_ucontext *uc, lp_t *lp)
{
	registers_t *r = &uc->registers;
	const bool armed = target_state.armed;
	long result;

	if (lp)
		lp->admitted = 0;
	if (is_waiting_call(r->rax)) {
		if (armed)
			behind_handler(r);
		result = set_blocked_by_call(r, lp, armed, uc);
		if (!armed) {
			r->rax = (uint64_t)result;
		} else if (result) {
			undo_call(r, ((const struct call_frame *)r->rsp)->back);
			r->rax = (uint64_t)result;
		}
		return;
	}
	switch (r->rax) {
	case __NR_rt_sigaction:
		result = signal_action(r);
		break;
	case __NR_rt_sigprocmask:
		result = signal_mask(r, lp, uc);
		break;
	case __NR_rt_sigpending:
		result = pending_signals(r, lp);
		break;
	case __NR_rt_sigtimedwait:
		if (wait_for_kept(r, lp, &result))
			break;
		behind_handler(r);
		return;
	case __NR_rt_sigreturn:
		signal_return_call(r, lp);
		return;
	case __NR_sigaltstack:
		result = alternate_stack(r, lp, uc);
		break;
	case __NR_fork:
	case __NR_clone:
		if (armed && !(r->rax == __NR_clone && r->rdi & CLONE_VM)) {
			result = fork_call(r, lp);
			break;
		}
		goto again;
	case __NR_prctl:
		result = dumpable(r);
		break;
	case __NR_execve:
		if (sys_call4(__NR_access, (long)r->rdi, 0, 0, 0) == ERROR_NO_ENTRY) {
			result = ERROR_NO_ENTRY;
			break;
		}
		goto again;
	case __NR_exit:
		thread_exit(r, lp, uc);
		return;
	default:
		if (concerns_sgx(r) && ask_call(r, uc->signal_mask | (lp ? lp->blocked : 0), &result)) {
			if (result != ERROR_RESTART)
				break;
			if (restarts(uc->signal_mask)) {
				r->rip -= SYSCALL_BYTES;
				return;
			}
			result = ERROR_INTERRUPTED;
			break;
		}
	again:
		if (armed && may_block(r)) {
			if (is_dangling_link(r) && ask_call(r, uc->signal_mask, &result))
				break;
			behind_handler(r);
			return;
		}
		result = sys_call6((long)r->rax, (long)r->rdi, (long)r->rsi, (long)r->rdx, (long)r->r10, (long)r->r8,
				   (long)r->r9);
		if (result == ERROR_NO_ENTRY && is_dangling_link(r))
			ask_call(r, uc->signal_mask, &result);
		if (r->rax == __NR_mmap && r->rdx & PROT_EXEC && !(r->r10 & MAP_ANONYMOUS))
			code_mapped(r, result);
		break;
	}
	r->rax = (uint64_t)result;
}

/* signal.c asks first. True: the signal was a trapped call, and is dealt with. */
bool trapped_call(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc, lp_t *lp)
{
	settle_call(&uc->registers);
	if (signal == SIGNAL_ILL && info->code > 0 && !(lp && lp->record) && cpuid_emulate(&uc->registers))
		return true;
	if (signal != SIGNAL_SYS || info->code != CODE_SECCOMP || info->error != TRAP_DATA || (lp && lp->record))
		return false;
	serve(uc, lp);
	return true;
}

/*
 * A SIGSYS or SIGILL of an unarmed process that is none of ours: sent by somebody, from a filter of the program's own,
 * or from an instruction.
 */
static void own_signal(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	const struct kernel_sigaction *own = &monitor_state.old_actions[signal], fallback = { .handler = SIG_DEFAULT };
	uint64_t mask;

	if (own->handler == SIG_IGNORE && info->code <= 0)
		return;
	if (own->handler == SIG_DEFAULT || own->handler == SIG_IGNORE) {
		sys_sigaction(signal, &fallback, NULL);
		sys_tgkill(sys_getpid(), sys_gettid(), signal);
		return;
	}
	mask = uc->signal_mask | own->mask | (own->flags & FLAG_NODEFER ? 0 : SIGNAL_BIT(signal));
	mask &= ~never_blocked();
	sys_sigprocmask(MASK_SET, &mask, NULL);
	((void (*)(int, struct kernel_siginfo *, struct kernel_ucontext *))own->handler)(signal, info, uc);
}

static void unarmed(int signal, struct kernel_siginfo *info, struct kernel_ucontext *uc)
{
	if (signal == SIGNAL_ILL && info->code > 0 && cpuid_emulate(&uc->registers))
		return;
	if (supervisor_called(signal, info, uc, false))
		return;
	if (info->code != CODE_SECCOMP || info->error != TRAP_DATA) {
		own_signal(signal, info, uc);
		return;
	}
	serve(uc, NULL);
	/* Serving may have armed the process: then more signals must not be blocked. */
	uc->signal_mask &= ~never_blocked();
}

/* From now on a signal is ours; what the program has for it is kept. */
static void own(int signal)
{
	const struct kernel_sigaction ours = {
		.handler = (uint64_t)unarmed,
		.flags = FLAG_SIGINFO | FLAG_ONSTACK | FLAG_NODEFER | FLAG_RESTART | FLAG_RESTORER,
		.restorer = (uint64_t)supervised_restorer,
	};
	uint64_t set = SIGNAL_BIT(signal);

	if (owned_signals & set)
		return;
	sys_sigaction(signal, NULL, &monitor_state.old_actions[signal]);
	owned_signals |= set;
	sys_sigaction(signal, &ours, NULL);
	sys_sigprocmask(MASK_UNBLOCK, &set, NULL);
}

/*
 * A file was mapped executable: its CPUID instructions are patched, in the private copy. Pages with some are few, and
 * the supervisor knows the files.
 */
static void code_mapped(const registers_t *r, long address)
{
	request_t request = { .op = ASK_CODE, .arg0 = (uint64_t)address, .arg1 = r->rsi, .arg2 = r->r8, .arg3 = r->r9 };

	if ((address < 0 && address > -4096) || cpuid_file_is_known(r->r8))
		return;
	ask(&request);
	if (cpuid_patched())
		own(SIGNAL_ILL);
}

/* start.S, before the program's first instruction, with its stack as exec left it. */
void supervised_prepare(uint64_t *stack)
{
	vdso_prepare(stack);
	enter_form_v23 = v23_wanted();
	own(SIGNAL_SYS);
	if (cpuid_patched())
		own(SIGNAL_ILL);
	/* PTRACE_TRACEME that had to wait for the exec, and what the exec of a traced program then brings. */
	if (trace_me_pending()) {
		sys_call4(__NR_ptrace, PTRACE_TRACEME, 0, 0, 0);
		sys_call4(__NR_kill, sys_getpid(), SIGNAL_TRAP, 0, 0);
	}
}
