"""Forwarding to the host's vDSO (``native/vdso/forward.c``), over hosts that this one is not.

Compiled into a small program, which makes up the stack of an exec and the host's vDSO in it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.make.native_enclave import NEEDS_GCC

pytestmark = NEEDS_GCC

NATIVE = Path(__file__).resolve().parents[2] / "native"

PROGRAM = r"""
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include "forward.h"
#include "vdso.h"

extern const char __ehdr_start[];
extern void *vdso_slots[FORWARD_COUNT];
extern char vdso_fallback_gettimeofday[], vdso_fallback_time[], vdso_fallback_clock_gettime[],
	vdso_fallback_clock_getres[], vdso_fallback_getcpu[], vdso_fallback_getrandom[];

static char host[0x2000] __attribute__((aligned(4096)));

/* The host's vDSO without one kind of hash table, and without the function that is named. */
static void change(Elf64_Sxword drop, const char *hide)
{
	Elf64_Ehdr *header = (Elf64_Ehdr *)host;
	Elf64_Phdr *segment = (Elf64_Phdr *)(host + header->e_phoff);
	Elf64_Dyn *dynamic = NULL;

	for (int i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_DYNAMIC)
			dynamic = (Elf64_Dyn *)(host + segment[i].p_offset);
	for (; dynamic->d_tag; dynamic++) {
		if (dynamic->d_tag == drop)
			dynamic->d_tag = DT_BIND_NOW;
		if (dynamic->d_tag != DT_STRTAB || !*hide)
			continue;
		for (char *name = host + dynamic->d_un.d_ptr + 1; *name; name += strlen(name) + 1)
			if (!strcmp(name, hide))
				*name = '?';
	}
}

int main(int argc, char **argv)
{
	void *fallback[] = {vdso_fallback_gettimeofday, vdso_fallback_time, vdso_fallback_clock_gettime,
		vdso_fallback_clock_getres, vdso_fallback_getcpu, vdso_fallback_getrandom};
	uint64_t stack[] = {2, 11, 12, 0, 21, 22, 23, 0, AT_PAGESZ, 4096, AT_SYSINFO_EHDR, (uintptr_t)host,
		AT_RANDOM, 99, AT_NULL, 0};
	uint64_t before[16];

	if (argc != 3 || !getauxval(AT_SYSINFO_EHDR))
		return 77;
	memcpy(host, (void *)getauxval(AT_SYSINFO_EHDR), 0x1000);
	if (!strcmp(argv[1], "gnu"))
		change(DT_HASH, argv[2]);
	else if (!strcmp(argv[1], "sysv"))
		change(DT_GNU_HASH, argv[2]);
	else if (!strcmp(argv[1], "none"))
		stack[10] = AT_BASE;
	else if (!strcmp(argv[1], "null"))
		stack[11] = 0;
	else if (!strcmp(argv[1], "garbage"))
		host[0] = 0;
	memcpy(before, stack, sizeof(stack));
	vdso_prepare(stack);
	for (int i = 0; i < FORWARD_COUNT; i++) {
		uintptr_t offset = (uintptr_t)vdso_slots[i] - (uintptr_t)host;
		putchar(vdso_slots[i] == fallback[i] ? 'f' : offset < sizeof(host) ? 'h' : '?');
	}
	if (stack[11] == (uintptr_t)__ehdr_start) {
		printf(" ours");
		stack[11] = before[11];
	}
	printf(" %d\n", memcmp(before, stack, sizeof(stack)));
	return 0;
}
"""

CALLS = r"""
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

extern long vdso_fallback_gettimeofday(struct timeval *, void *), vdso_fallback_time(time_t *),
	vdso_fallback_clock_gettime(int, struct timespec *), vdso_fallback_clock_getres(int, struct timespec *),
	vdso_fallback_getcpu(unsigned *, unsigned *, void *),
	vdso_fallback_getrandom(void *, unsigned long, unsigned, void *, unsigned long);

int main(void)
{
	struct timespec t = {0, 0}, r = {0, 0};
	struct timeval v = {0, 0};
	time_t now = 0;
	unsigned cpu = 99999, node = 99999;
	char state[256];

	printf("%d", vdso_fallback_gettimeofday(&v, 0) == 0 && v.tv_sec > 0);
	printf("%d", vdso_fallback_time(&now) == now && now > 0);
	printf("%d", vdso_fallback_clock_gettime(CLOCK_MONOTONIC, &t) == 0 && t.tv_sec + t.tv_nsec > 0);
	printf("%d", (int)vdso_fallback_clock_gettime(12345, &t) == -22);
	printf("%d", vdso_fallback_clock_getres(CLOCK_MONOTONIC, &r) == 0 && r.tv_nsec > 0);
	printf("%d", vdso_fallback_getcpu(&cpu, &node, 0) == 0 && cpu != 99999 && node != 99999);
	printf(" %ld\n", vdso_fallback_getrandom(0, 0, 0, state, ~0ul));
	return 0;
}
"""


def built(folder: Path, source: str) -> Path:
    """A program of the source and the forwarding of the images; the kernel's names stay out, libc has them."""
    (folder / "main.c").write_text(source, encoding="utf-8")
    program = folder / "main"
    vdso = NATIVE / "vdso"
    flags = ["-g", "-mfsgsbase", f"-I{NATIVE}/include", f"-I{NATIVE}/monitor", f"-I{vdso}"]
    files = [folder / "main.c", vdso / "forward.c", vdso / "fallback.S"]
    subprocess.run(["gcc", *flags, "-o", str(program), *map(str, files)], check=True, timeout=60)
    return program


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that prepares for a made-up host."""
    program = built(tmp_path_factory.mktemp("forward"), PROGRAM)
    if subprocess.run([program, "sysv", ""], timeout=60).returncode == 77:
        pytest.skip("this host has no vDSO")
    return program


def prepare(program: Path, host: str, hide: str = "") -> tuple[str, str]:
    """Where the slots lead (h host, f fallback), and what became of the stack: 'ours 0' or '0' if unchanged."""
    done = subprocess.run([program, host, hide], capture_output=True, text=True, timeout=60, check=True)
    slots, _, stack = done.stdout.strip().partition(" ")
    return slots, stack


@pytest.mark.parametrize("table", ["gnu", "sysv"])
def test_functions_of_the_host_are_found_by_either_hash_table(prepared: Path, table: str) -> None:
    slots, stack = prepare(prepared, table)
    assert slots in ("hhhhhh", "hhhhhf")  # getrandom: since Linux 6.11
    assert stack == "ours 0"


@pytest.mark.parametrize(
    ("number", "name"), list(enumerate(["gettimeofday", "time", "clock_gettime", "clock_getres", "getcpu"]))
)
def test_function_that_the_host_lacks_has_its_fallback(prepared: Path, number: int, name: str) -> None:
    slots, stack = prepare(prepared, "sysv", f"__vdso_{name}")
    assert slots[:5] == "".join("f" if i == number else "h" for i in range(5))
    assert stack == "ours 0"


@pytest.mark.parametrize("host", ["none", "null", "garbage"])
def test_without_a_vdso_of_the_host_nothing_is_changed(prepared: Path, host: str) -> None:
    assert prepare(prepared, host) == ("ffffff", "0")


def test_fallbacks_are_the_system_calls(tmp_path: Path) -> None:
    done = subprocess.run([built(tmp_path, CALLS)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "111111 -38\n"
