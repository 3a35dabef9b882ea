// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that reach into the memory of a process from outside, be it another or the program's own: ptrace(2),
 * /proc/PID/mem, process_vm_readv(2). Of enclave memory the driver answers them, since the kernel knows nothing of
 * debug enclaves, and would write to a private copy of code. Here it is only looked whether an enclave can be meant;
 * in doubt, yes.
 *
 * What this relies on: the image is at one address in all programs of the tree, so another's tables are where ours are.
 */
#include "supervised.h"

#include "sys.h"

#include <asm/stat.h>
#include <linux/ptrace.h>

/* As in <linux/stat.h>, which does not say so beside a libc: a regular file that its owner reads and writes. */
#define MODE_MEMORY 0100600
#define LINK_BYTES 64
#define AREAS_AT_ONCE 8
#define VECTORS_AT_MOST 1024

/* Whether "length" bytes could be read from another process. */
static bool read_of(uint64_t pid, const void *address, void *to, uint64_t length)
{
	uint64_t ours[] = { (uint64_t)to, length }, theirs[] = { (uint64_t)address, length };

	return sys_call6(__NR_process_vm_readv, (long)pid, (long)ours, 1, (long)theirs, 1, 0) == (long)length;
}

/* How many areas with enclave mappings another process has. */
static uint32_t areas_of(uint64_t pid)
{
	uint32_t armed, count;

	if (!read_of(pid, &target_state.armed, &armed, sizeof(armed)) || !armed ||
	    !read_of(pid, &target_state.area_count, &count, sizeof(count)))
		return 0;
	return count < sizeof(target_state.areas) / 16 ? count : sizeof(target_state.areas) / 16;
}

/* Whether a range of another process's, which has so many areas, can have enclave mappings in it. */
static bool concerns_range_of(uint64_t pid, uint32_t count, uint64_t address, uint64_t length)
{
	uint64_t areas[2 * AREAS_AT_ONCE];

	for (uint32_t done = 0; done < count; done += AREAS_AT_ONCE) {
		const uint32_t some = count - done < AREAS_AT_ONCE ? count - done : AREAS_AT_ONCE;

		if (!read_of(pid, target_state.areas + 16ul * done, areas, 16ul * some))
			return false;
		for (uint32_t i = 0; i < some; i++)
			if (address < areas[2 * i + 1] && (address >= areas[2 * i] || areas[2 * i] - address < length))
				return true;
	}
	return false;
}

/* Whether a tracee that is about to be resumed is a new program without our image. */
static bool concerns_tracee(uint64_t pid)
{
	uint32_t magic;

	return !read_of(pid, image_header, &magic, sizeof(magic));
}

/* ptrace(2): a word of a tracee's, or what resumes it. */
bool concerns_ptrace(const registers_t *r)
{
	switch (r->rdi) {
	case PTRACE_TRACEME:
		return true;
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
	case PTRACE_POKETEXT:
	case PTRACE_POKEDATA:
		return concerns_range_of(r->rsi, areas_of(r->rsi), r->rdx, sizeof(uint64_t));
	default:
		return concerns_tracee(r->rsi);
	}
}

/* The process whose /proc/PID/mem a descriptor is open for; 0: it is of another file. */
static uint64_t memory_file(uint64_t fd)
{
	static const char end[] = "/mem";
	char path[LINK_BYTES] = "/proc/thread-self/fd/", digits[10], link[LINK_BYTES];
	uint32_t number = (uint32_t)fd, at = sizeof("/proc/thread-self/fd/") - 1, count = 0;
	uint64_t pid = 0, ten = 1;
	struct stat is;
	long length;

	if (sys_call4(__NR_fstat, (long)fd, (long)&is, 0, 0) || is.st_mode != MODE_MEMORY || is.st_size)
		return 0;
	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	while (count)
		path[at++] = digits[--count];
	path[at] = 0;
	length = sys_call4(__NR_readlink, (long)path, (long)link, sizeof(link), 0);
	if (length < (long)sizeof("/proc/1/mem") - 1 || length == sizeof(link))
		return 0;
	at = (uint32_t)length;
	for (uint32_t i = sizeof(end) - 1; i--;)
		if (link[--at] != end[i])
			return 0;
	for (; at && link[at - 1] >= '0' && link[at - 1] <= '9'; ten *= 10)
		pid += ten * (uint64_t)(link[--at] - '0');
	return pid;
}

/* Reading and writing of a descriptor, at a place or where it is. */
bool concerns_memory_file(const registers_t *r)
{
	const uint64_t pid = memory_file(r->rdi);
	const uint32_t count = pid ? areas_of(pid) : 0;
	long place;

	if (!count)
		return false;
	switch (r->rax) {
	case __NR_pread64:
	case __NR_pwrite64:
		return concerns_range_of(pid, count, r->r10, r->rdx);
	case __NR_read:
	case __NR_write:
		place = sys_call4(__NR_lseek, (long)r->rdi, 0, 1, 0);
		return concerns_range_of(pid, count, (uint64_t)place, r->rdx);
	default: /* several buffers */
		return true;
	}
}

/* process_vm_readv(2) and process_vm_writev(2). */
bool concerns_vectors(const registers_t *r)
{
	const uint64_t vectors = r->r8 < VECTORS_AT_MOST ? r->r8 : VECTORS_AT_MOST;
	const uint32_t count = vectors ? areas_of(r->rdi) : 0;

	for (uint64_t i = 0; count && i < vectors; i++) {
		uint64_t vector[2];

		if (copy_in(vector, r->r10 + sizeof(vector) * i, sizeof(vector)))
			return false; /* the call itself says EFAULT */
		if (concerns_range_of(r->rdi, count, vector[0], vector[1]))
			return true;
	}
	return false;
}
