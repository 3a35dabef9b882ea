// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID of a supervised program, patched to UD2: the host's answer, changed by the table that the supervisor wrote.
 *
 * Runs in a signal handler, in any thread, with several at once; it changes nothing but the caller's registers.
 */
#include "cpuid.h"

#include "sys.h"

#include <asm/stat.h>

#define LEAF_SGX 0x12

struct answer {
	uint32_t registers[4]; /* EAX, EBX, ECX, EDX */
};

/* First of all data, where the supervisor finds it: vdso/target.lds. */
static struct {
	struct cpuid_table table;
	uint8_t lists[CPUID_BYTES - sizeof(struct cpuid_table)];
	uint8_t scratch[SCRATCH_BYTES];
	struct known_files known;
} data __attribute__((section(".bss.first")));
/* The exported name only: an access by it would need a relocation. */
extern struct cpuid_table swsgx_cpuid_table __attribute__((alias("data"), visibility("default")));
/* CPUID.0:EAX of the host, once somebody has asked: on a virtual machine each CPUID takes microseconds. */
static uint32_t host_maximum;

static struct answer host_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct answer a;

	__asm__ volatile("cpuid"
			 : "=a"(a.registers[0]), "=b"(a.registers[1]), "=c"(a.registers[2]), "=d"(a.registers[3])
			 : "0"(leaf), "2"(subleaf));
	return a;
}

static uint32_t last_host_leaf(void)
{
	uint32_t last = __atomic_load_n(&host_maximum, __ATOMIC_RELAXED);

	if (!last) {
		last = host_cpuid(0, 0).registers[0];
		__atomic_store_n(&host_maximum, last, __ATOMIC_RELAXED);
	}
	return last;
}

static bool is_site(uint64_t rip)
{
	const struct cpuid_sites *sites;
	uint64_t low = 0, high;

	sites = (const struct cpuid_sites *)__atomic_load_n(&data.table.sites, __ATOMIC_ACQUIRE);
	if (!sites)
		return false;
	high = sites->count;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (sites->addresses[middle] < rip)
			low = middle + 1;
		else
			high = middle;
	}
	return low < sites->count && sites->addresses[low] == rip;
}

static const struct cpuid_override *override_for(const struct cpuid_answers *answers, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < answers->count && i < CPUID_OVERRIDES; i++) {
		const struct cpuid_override *o = &answers->overrides[i];

		if (o->leaf == leaf && (o->subleaf == subleaf || o->subleaf == CPUID_ANY_SUBLEAF))
			return o;
	}
	return NULL;
}

static struct answer emulated_cpuid(uint32_t leaf, uint32_t subleaf)
{
	const struct cpuid_answers *answers = &data.table.answers;
	const struct cpuid_override *o;
	struct answer a = { 0 };

	/*
	 * Leaves between the host's last one and ours are zero: asked for itself, the host answers with its last leaf
	 * (Intel) or zeros (AMD). Subleaves of 12H are never the host's.
	 */
	if (leaf > answers->maximum || (leaf != LEAF_SGX && leaf <= last_host_leaf()))
		a = host_cpuid(leaf, subleaf);
	if (leaf == 0 && a.registers[0] < answers->maximum)
		a.registers[0] = answers->maximum;
	o = override_for(answers, leaf, subleaf);
	for (uint32_t i = 0; o && i < 4; i++)
		a.registers[i] = (a.registers[i] & o->keep[i]) | o->set[i];
	return a;
}

bool cpuid_file_is_known(uint64_t fd)
{
	struct stat is;

	if (data.known.count == ALL_FILES)
		return true;
	if (sys_call4(__NR_fstat, (long)fd, (long)&is, 0, 0))
		return false;
	for (uint64_t i = 0; i < data.known.count && i < KNOWN_FILES; i++) {
		const struct known_file *f = &data.known.files[i];

		if (f->inode == is.st_ino && f->device == is.st_dev && f->size == (uint64_t)is.st_size &&
		    f->seconds == is.st_mtime && f->nanoseconds == is.st_mtime_nsec)
			return true;
	}
	return false;
}

bool trace_me_pending(void)
{
	return data.scratch[0];
}

bool v23_wanted(void)
{
	return data.scratch[1];
}

bool cpuid_patched(void)
{
	return __atomic_load_n(&data.table.sites, __ATOMIC_ACQUIRE);
}

bool cpuid_emulate(registers_t *regs)
{
	struct answer a;

	if (!is_site(regs->rip))
		return false;
	a = emulated_cpuid((uint32_t)regs->rax, (uint32_t)regs->rcx);
	regs->rax = a.registers[0];
	regs->rbx = a.registers[1];
	regs->rcx = a.registers[2];
	regs->rdx = a.registers[3];
	regs->rip += 2;
	/* The fault set RF, which would keep a breakpoint on the next instruction from being seen. */
	regs->rflags &= ~RFLAGS_RF;
	return true;
}
