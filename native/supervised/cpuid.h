/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID as the emulated CPU says it: UD2 at one of our patched sites, with the host's answer changed by a table.
 *
 * Who writes what: the table is the first of the image's data, all zero. The supervisor writes answers once, before the program's
 * first instruction. Each list of sites is written to fresh memory, then its address to sites (8 bytes, aligned), and
 * only then are the sites patched; so a thread that meets a patched site finds it in whichever list it sees. A
 * list that was replaced stays as it is.
 */
#ifndef SWSGX_CPUID_H
#define SWSGX_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor.h"

#define CPUID_OVERRIDES 12
#define CPUID_BYTES 0x8000 /* table and lists; image.py has the same */
#define SCRATCH_BYTES 1024 /* behind them; for the supervisor, while this process makes calls for it */
#define KNOWN_FILES 64
#define ALL_FILES (~0ull)
#define CPUID_ANY_SUBLEAF 0xffffffffu

/* answer & keep | set, for EAX, EBX, ECX, EDX. */
struct cpuid_override {
	uint32_t leaf;
	uint32_t subleaf; /* or CPUID_ANY_SUBLEAF, for leaves without subleaves */
	uint32_t keep[4];
	uint32_t set[4];
};

struct cpuid_answers {
	uint32_t maximum; /* basic leaves up to this one exist at least */
	uint32_t count;	  /* of the overrides; a subleaf of 12H that none names is all zero */
	struct cpuid_override overrides[CPUID_OVERRIDES];
};

struct cpuid_sites {
	uint64_t count;
	uint64_t addresses[]; /* ascending */
};

/* The lists of sites lie behind it, each newer one behind the older. */
struct cpuid_table {
	uint64_t sites; /* of a struct cpuid_sites; 0: nothing is patched */
	struct cpuid_answers answers;
};

/*
 * Files that are mapped executable and need no patch, by what fstat(2) says of them: the supervisor is not asked. It
 * writes them before the program's first instruction, behind the scratch.
 */
struct known_file {
	uint64_t device, inode, size, seconds, nanoseconds;
};

struct known_files {
	uint64_t count; /* ALL_FILES: nothing is to be patched at all */
	struct known_file files[KNOWN_FILES];
};

_Static_assert(sizeof(struct known_files) == 8 + KNOWN_FILES * 40, "image.py's room, cpuid.py's format");
_Static_assert(sizeof(struct cpuid_override) == 40, "Python's pack_overrides");
_Static_assert(sizeof(struct cpuid_answers) == 8 + CPUID_OVERRIDES * 40, "Python's pack_overrides");
_Static_assert(__builtin_offsetof(struct cpuid_table, answers) == 8, "Python writes answers behind sites");

/*
 * Called for SIGILL with RIP at a UD2. True: it was one of ours, and regs are as behind a CPUID. False: it is the
 * program's own.
 */
bool cpuid_emulate(registers_t *regs);
/* Whether a file that was mapped executable is known to need no patch. */
bool cpuid_file_is_known(uint64_t fd);
/* Whether the program starts as a tracee of its parent: the supervisor's first byte of scratch. */
bool trace_me_pending(void);
/* Whether the vDSO's function is that of the 2019 series: the second byte. */
bool v23_wanted(void);
/* Whether any site is patched. */
bool cpuid_patched(void);

#endif
