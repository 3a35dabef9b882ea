// SPDX-License-Identifier: Apache-2.0
/*
 * Where our vDSO's functions go: to those of the host's vDSO, which the auxiliary vector names. It is then made to
 * name ours. Only what the host has is forwarded: a container's kernel may offer less, or no vDSO at all.
 */
#include "vdso.h"

#include <linux/auxvec.h>
#include <linux/elf.h>
#include <stdbool.h>
#include <stddef.h>

#include "forward.h"
#include "monitor.h"

#define TAG_GNU_HASH 0x6ffffef5
/* The first 6 bytes: magic, 64 bit, little endian. */
#define IDENT 0x0102464c457ful
#define IDENT_MASK 0xfffffffffffful

typedef void function_t(void);

#define FALLBACK __attribute__((visibility("hidden")))
FALLBACK function_t vdso_fallback_gettimeofday, vdso_fallback_time, vdso_fallback_clock_gettime,
	vdso_fallback_clock_getres, vdso_fallback_getcpu, vdso_fallback_getrandom;

/* forward.S jumps through these. They are in no relocation: filled at run time. */
function_t *vdso_slots[FORWARD_COUNT] __attribute__((visibility("hidden")));

struct vdso {
	uint64_t bias; /* where address 0 of the image lies */
	const Elf64_Sym *symbols;
	const char *names;
	const uint32_t *hash;
	const uint32_t *gnu_hash;
};

static bool parse(struct vdso *vdso, uint64_t base)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
	const Elf64_Phdr *segment;
	const Elf64_Dyn *dynamic = NULL;
	bool loaded = false;

	if ((*(const uint64_t *)header->e_ident & IDENT_MASK) != IDENT)
		return false;
	segment = (const Elf64_Phdr *)(base + header->e_phoff);
	for (uint32_t i = 0; i < header->e_phnum; i++) {
		if (segment[i].p_type == PT_LOAD && !loaded) {
			loaded = true;
			vdso->bias = base + segment[i].p_offset - segment[i].p_vaddr;
		} else if (segment[i].p_type == PT_DYNAMIC) {
			dynamic = (const Elf64_Dyn *)(base + segment[i].p_offset);
		}
	}
	if (!loaded || !dynamic)
		return false;
	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		uint64_t address = vdso->bias + dynamic->d_un.d_ptr;

		if (dynamic->d_tag == DT_SYMTAB)
			vdso->symbols = (const Elf64_Sym *)address;
		else if (dynamic->d_tag == DT_STRTAB)
			vdso->names = (const char *)address;
		else if (dynamic->d_tag == DT_HASH)
			vdso->hash = (const uint32_t *)address;
		else if (dynamic->d_tag == TAG_GNU_HASH)
			vdso->gnu_hash = (const uint32_t *)address;
	}
	return vdso->symbols && vdso->names && (vdso->hash || vdso->gnu_hash);
}

/* How many symbols there are. The GNU hash tells it by its last chain's end only. */
static uint32_t count(const struct vdso *vdso)
{
	const uint32_t *hash = vdso->gnu_hash;
	const uint32_t *buckets, *chain;
	uint32_t first, last = 0;

	if (vdso->hash)
		return vdso->hash[1];
	first = hash[1];
	buckets = hash + 4 + 2 * (uint64_t)hash[2]; /* behind the filter's 64-bit words */
	chain = buckets + hash[0];
	for (uint32_t i = 0; i < hash[0]; i++)
		if (buckets[i] > last)
			last = buckets[i];
	if (last < first)
		return 0;
	while (!(chain[last - first] & 1))
		last++;
	return last + 1;
}

static bool equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* The slot of a function of the host's; FORWARD_COUNT: we have no such function. A table would need relocations. */
static uint32_t slot_named(const char *name)
{
	static const char names[FORWARD_COUNT][24] = {
		[FORWARD_GETTIMEOFDAY] = "__vdso_gettimeofday",	  [FORWARD_TIME] = "__vdso_time",
		[FORWARD_CLOCK_GETTIME] = "__vdso_clock_gettime", [FORWARD_CLOCK_GETRES] = "__vdso_clock_getres",
		[FORWARD_GETCPU] = "__vdso_getcpu",		  [FORWARD_GETRANDOM] = "__vdso_getrandom",
	};
	uint32_t slot = 0;

	while (slot < FORWARD_COUNT && !equal(name, names[slot]))
		slot++;
	return slot;
}

static void fill(const struct vdso *vdso)
{
	uint32_t symbols = count(vdso);

	for (uint32_t i = 0; i < symbols; i++) {
		const Elf64_Sym *symbol = vdso->symbols + i;
		uint32_t slot;

		if (symbol->st_shndx == SHN_UNDEF)
			continue;
		slot = slot_named(vdso->names + symbol->st_name);
		if (slot < FORWARD_COUNT)
			vdso_slots[slot] = (function_t *)(vdso->bias + symbol->st_value);
	}
}

void vdso_prepare(uint64_t *stack)
{
	struct vdso vdso = { 0 };
	uint64_t *word = stack + 1 + *stack + 1; /* behind argc, argv and its NULL */

	vdso_slots[FORWARD_GETTIMEOFDAY] = vdso_fallback_gettimeofday;
	vdso_slots[FORWARD_TIME] = vdso_fallback_time;
	vdso_slots[FORWARD_CLOCK_GETTIME] = vdso_fallback_clock_gettime;
	vdso_slots[FORWARD_CLOCK_GETRES] = vdso_fallback_clock_getres;
	vdso_slots[FORWARD_GETCPU] = vdso_fallback_getcpu;
	vdso_slots[FORWARD_GETRANDOM] = vdso_fallback_getrandom;
	while (*word++)
		; /* the environment */
	while (word[0] != AT_NULL && word[0] != AT_SYSINFO_EHDR)
		word += 2;
	if (word[0] == AT_NULL || !word[1] || !parse(&vdso, word[1]))
		return;
	fill(&vdso);
	word[1] = (uint64_t)image_header;
}
