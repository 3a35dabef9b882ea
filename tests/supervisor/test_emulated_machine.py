"""What a program can find out about the machine: CPUID, /proc/cpuinfo, sysfs, and the nodes in listings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.make import supervised
from tests.make.supervised import compiled, run

CPUID = r"""
#include <cpuid.h>
#include <stdio.h>

int main(void)
{
	unsigned a, b, c, d;

	__cpuid_count(7, 0, a, b, c, d);
	printf("%u %u\n", b >> 2 & 1, c >> 30 & 1);
	__cpuid_count(0x12, 0, a, b, c, d);
	printf("%u\n", a & 3);
	__cpuid_count(0x12, 2, a, b, c, d);
	printf("%#lx\n", (c & 0xfffff000ul) + ((d & 0xffffful) << 32));
	return 0;
}
"""
#: The program's own handler still gets an instruction of its own that is none, and sigaction(2) tells of it only.
OWN_HANDLER = r"""
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <ucontext.h>

static int seen;

static void handler(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)info;
	seen = signo;
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO }, old;
	unsigned a, b, c, d;

	sigaction(SIGILL, NULL, &old);
	printf("%d ", old.sa_handler == SIG_DFL);
	sigaction(SIGILL, &action, NULL);
	__cpuid_count(0x12, 0, a, b, c, d);
	printf("%u %d ", a & 1, seen);
	__asm__ volatile("ud2");
	sigaction(SIGILL, NULL, &old);
	printf("%d %d\n", seen, old.sa_sigaction == handler);
	return 0;
}
"""


@pytest.fixture
def with_options() -> Iterator[list[str]]:
    """Options of ``swsgx run`` for one test."""
    supervised.options.clear()
    yield supervised.options
    supervised.options.clear()


@pytest.mark.parametrize("flags", [(), ("-static",)], ids=["dynamic", "static"])
def test_cpuid_tells_of_sgx2_and_the_epc(tmp_path: Path, flags: tuple[str, ...]) -> None:
    done = run([compiled(CPUID, tmp_path, *flags)])
    assert done.stdout.split() == ["1", "1", "3", "0x8000000"], done.stderr


def test_cpuid_is_that_of_the_options(tmp_path: Path, with_options: list[str]) -> None:
    with_options += ["--cpu", "sgx1", "--epc", "64M"]
    done = run([compiled(CPUID, tmp_path)])
    assert done.stdout.split() == ["1", "1", "1", "0x4000000"], done.stderr


def test_cpuid_in_a_library_that_is_loaded_later_is_seen(tmp_path: Path) -> None:
    compiled(CPUID.replace("main(void)", "tell(void)"), tmp_path, "-shared", "-fPIC", name="tell.so")
    host = """
#include <dlfcn.h>
int main(int argc, char **argv)
{
	int (*tell)(void) = dlsym(dlopen(argv[argc - 1], RTLD_NOW), "tell");

	return tell();
}
"""
    done = run([compiled(host, tmp_path, name="host"), tmp_path / "tell.so"])
    assert done.stdout.split() == ["1", "1", "3", "0x8000000"], done.stderr


def test_without_patches_cpuid_is_the_hosts(tmp_path: Path, with_options: list[str]) -> None:
    program = compiled(CPUID, tmp_path)
    with_options += ["--no-patch"]
    assert run([program]).stdout == run([program], under=False).stdout


@pytest.mark.parametrize("flags", [(), ("-static",)], ids=["dynamic", "static"])
def test_a_handler_for_illegal_instructions_gets_the_programs_own(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    done = run([compiled(OWN_HANDLER, tmp_path, *flags)])
    assert done.stdout.split() == ["1", "1", "0", "4", "1"], done.stderr


def test_an_illegal_instruction_ends_a_program_as_it_does_alone(tmp_path: Path) -> None:
    source = CPUID.replace("\treturn 0;\n", '\tfflush(stdout);\n\t__asm__ volatile("ud2");\n\treturn 0;\n')
    program = compiled(source, tmp_path)
    assert run([program]).returncode == run([program], under=False).returncode == -4


def test_cpuinfo_and_sysfs_tell_of_sgx() -> None:
    done = run(["cat", "/proc/cpuinfo", "/sys/devices/system/node/node0/x86/sgx_total_bytes"])
    assert done.returncode == 0, done.stderr
    flags = next(line for line in done.stdout.splitlines() if line.startswith("flags")).split()
    assert "sgx" in flags
    assert "sgx_lc" in flags
    assert done.stdout.splitlines()[-1] == str(128 << 20)


def test_a_relative_path_to_cpuinfo_is_the_same_file() -> None:
    done = run(["grep", "-c", "sgx_lc", "cpuinfo"], cwd="/proc")
    assert int(done.stdout) > 0


@pytest.mark.parametrize("folder", ["/dev", "/dev/"])
def test_dev_lists_the_nodes_once(folder: str) -> None:
    names = run(["ls", "-a", folder]).stdout.split()
    assert [name for name in names if name.startswith("sgx")] == ["sgx", "sgx_enclave", "sgx_provision"]
    real = run(["ls", "-a", folder], under=False).stdout.split()
    assert [name for name in names if not name.startswith("sgx")] == real


def test_dev_sgx_is_a_folder_with_two_nodes() -> None:
    assert run(["ls", "-a", "/dev/sgx"]).stdout.split() == [".", "..", "enclave", "provision"]
    lines = run(["ls", "-l", "/dev/sgx"]).stdout.splitlines()
    assert [line[0] for line in lines[1:]] == ["c", "c"]


def test_a_listing_read_twice_is_the_same() -> None:
    code = "import os; a = os.listdir('/dev'); assert a == os.listdir('/dev'); print('sgx_enclave' in a)"
    done = run(["python3", "-c", code])
    assert done.stdout == "True\n", done.stderr


def test_a_listing_in_small_pieces_is_whole() -> None:
    code = (
        "import ctypes, os\n"
        "fd = os.open('/dev', os.O_RDONLY | os.O_DIRECTORY)\n"
        "buffer, found = ctypes.create_string_buffer(64), b''\n"
        "while (n := ctypes.CDLL(None).syscall(217, fd, buffer, 64)) > 0: found += buffer.raw[:n]\n"
        "print(n, found.count(b'sgx_enclave'), found.count(b'sgx_provision'))"
    )
    done = run(["python3", "-c", code])
    assert done.stdout == "0 1 1\n", done.stderr


def test_the_machine_is_not_seen_outside() -> None:
    alone = subprocess.run(["ls", "/dev"], capture_output=True, text=True, check=True, timeout=60)
    run(["ls", "/dev"])
    after = subprocess.run(["ls", "/dev"], capture_output=True, text=True, check=True, timeout=60)
    assert alone.stdout == after.stdout
