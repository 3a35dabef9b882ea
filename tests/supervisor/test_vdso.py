"""The vDSO that a supervised program sees: the kernel's functions at full speed, and ``__vdso_sgx_enter_enclave``.

``tests/programs/vdso.c`` looks at its own; alone it looks at the kernel's, and what it prints is compared.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.make.supervised import compiled, environment, run

SOURCE = Path(__file__).resolve().parents[1] / "programs" / "vdso.c"
LINKED = {
    "dynamic": [],
    "static": ["-static", "-DSTATIC"],
    "static-pie": ["-static-pie", "-fPIE", "-DSTATIC"],
    "gnu-hash": ["-Wl,--hash-style=gnu"],
}
ENTER = "__vdso_sgx_enter_enclave@@LINUX_2.6"
OPTIONAL = {f"{prefix}getrandom@@LINUX_2.6" for prefix in ("", "__vdso_")}  # Linux 6.11

#: musl's way to the base and the table, in a program without libc, which knows nothing of glibc's loader.
FREESTANDING = r"""
typedef unsigned long u64;
#include <elf.h>
static long call(long n, long a, long b, long c)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "0"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}
static int equal(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return *a == *b;
}
__attribute__((used)) static void begin(u64 *stack)
{
	u64 *word = stack + *stack + 2, base = -1ul, image;
	Elf64_Ehdr *header;
	Elf64_Phdr *segment;
	Elf64_Dyn *dynamic = 0;
	Elf64_Sym *symbols = 0;
	char *names = 0;
	unsigned int *hash = 0;
	long time[2] = {0, 0};
	while (*word++)
		;
	while (word[0] && word[0] != AT_SYSINFO_EHDR)
		word += 2;
	image = word[1];
	if (!image)
		call(60, 2, 0, 0);
	header = (void *)image;
	segment = (void *)(image + header->e_phoff);
	for (int i = 0; i < header->e_phnum; i++, segment++) {
		if (segment->p_type == PT_LOAD && base == -1ul)
			base = image + segment->p_offset - segment->p_vaddr;
		else if (segment->p_type == PT_DYNAMIC)
			dynamic = (void *)(image + segment->p_offset);
	}
	for (; dynamic->d_tag; dynamic++) {
		void *at = (void *)(base + dynamic->d_un.d_ptr);
		if (dynamic->d_tag == DT_SYMTAB)
			symbols = at;
		else if (dynamic->d_tag == DT_STRTAB)
			names = at;
		else if (dynamic->d_tag == DT_HASH)
			hash = at;
	}
	for (unsigned int i = 0; i < hash[1]; i++)
		if (equal(names + symbols[i].st_name, "__vdso_clock_gettime") && symbols[i].st_shndx)
			if (!((int (*)(int, long *))(base + symbols[i].st_value))(1, time) && time[0] + time[1] > 0)
				call(1, 1, (long)"found\n", 6);
	call(60, 0, 0, 0);
}
__asm__(".globl _start\n_start:\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
"""

GO = """
package main

import (
	"fmt"
	"os/exec"
	"time"
)

func main() {
	begin := time.Now()
	out, err := exec.Command("echo", "child").Output()
	fmt.Print(string(out), err, !time.Now().Before(begin), "\\n")
}
"""


def program(folder: Path, linked: str = "dynamic") -> Path:
    return compiled(SOURCE.read_text(encoding="utf-8"), folder, *LINKED[linked])


@pytest.mark.parametrize("linked", LINKED)
def test_program_finds_our_image_and_the_monitors_function_in_it(linked: str, tmp_path: Path) -> None:
    vdso = program(tmp_path, linked)
    assert run([vdso, "base"]).stdout == "6f000000\n"
    alone, under = (set(run([vdso, "names"], under=way).stdout.splitlines()) for way in (False, True))
    assert under - alone - OPTIONAL == {ENTER, "enter -22 -22 -22"} - alone
    assert alone - under == set()


@pytest.mark.parametrize("linked", LINKED)
def test_time_and_cpu_are_told_without_a_system_call(linked: str, tmp_path: Path) -> None:
    """As alone: some clocks of a virtual machine need one, on any vDSO."""
    vdso = program(tmp_path, linked)
    alone, under = (run([vdso, "quiet"], under=way).stdout.splitlines() for way in (False, True))
    if not any(line.startswith("getrandom") for line in alone):
        alone.insert(-2, "getrandom -38")
    assert under == alone
    assert under[-1].endswith(("system call", "no filter here"))


def test_dynamic_loader_lists_it_and_finds_symbols_by_version(tmp_path: Path) -> None:
    vdso = program(tmp_path)
    alone, under = (run([vdso, "loader"], under=way).stdout.splitlines() for way in (False, True))
    assert [line for line in under if line != "enter 1"] == [line for line in alone if line != "enter 1"]
    assert "listed 1" in under
    assert "enter 1" in under


@pytest.mark.parametrize("linked", ["dynamic", "static"])
def test_each_instruction_of_it_can_be_unwound_from(linked: str, tmp_path: Path) -> None:
    done = run([program(tmp_path, linked), "unwind"])
    functions = ("__vdso_clock_gettime", "__vdso_time", "__vdso_sgx_enter_enclave")
    assert done.stdout.splitlines() == [f"{name} 1 1" for name in functions]


def test_program_without_a_libc_finds_it_by_musls_rules(tmp_path: Path) -> None:
    alone = compiled(FREESTANDING, tmp_path, "-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector")
    assert run([alone], under=False).stdout == "found\n"
    assert run([alone]).stdout == "found\n"


def test_ldd_names_it_where_it_is() -> None:
    if shutil.which("ldd") is None:
        pytest.skip("no ldd here: install libc-bin to run this")
    assert re.search(r"linux-vdso\.so\.1 \(0x0*6f000000\)", run(["ldd", "/bin/true"]).stdout)


def test_programs_that_look_at_the_clock_work() -> None:
    assert run(["sh", "-c", "date; true"]).stdout != ""
    assert run(
        [sys.executable, "-c", "import time; print(time.time() > 1e9, time.monotonic() > 0)"]
    ).stdout == ("True True\n")


@pytest.mark.slow
def test_go_program_works(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("no go here: install golang to run this")
    (tmp_path / "main.go").write_text(GO)
    env = {**environment(), "GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off"}
    built = run(["go", "build", "-o", "main", "main.go"], under=False, cwd=tmp_path, env=env, timeout=300)
    assert built.returncode == 0, built.stderr
    assert run([tmp_path / "main"]).stdout == "child\n<nil> true\n"
