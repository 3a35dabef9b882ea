"""Programs that are traced inside the tree: by strace, by gdb, and by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.make.supervised import compiled, run

NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here: install strace")
NEEDS_GDB = pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb here: install gdb")
PASS_SIGNALS = ["-ex", "handle SIGSYS SIGILL SIGSEGV nostop noprint pass"]
NODE = r"""
#include <fcntl.h>
#include <stdio.h>

int main(void)
{
	printf("%s\n", open("/dev/sgx_enclave", O_RDWR) < 0 ? "no node" : "node");
	return 0;
}
"""
#: A debugger of a few lines: its child asks to be traced, by fork or by vfork, and is followed to its end.
TRACER = r"""
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int status, signal = 0, how = !strcmp(argv[1], "syscalls") ? PTRACE_SYSCALL : PTRACE_CONT;
	pid_t child = argc > 3 ? vfork() : fork();

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		if (argc <= 3)
			raise(SIGSTOP);
		execl(argv[2], argv[2], NULL);
		_exit(1);
	}
	while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		signal = WSTOPSIG(status);
		if (signal == SIGTRAP || signal == SIGSTOP)
			signal = 0;
		if (ptrace(how, child, 0, signal))
			return 2;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}
"""


@NEEDS_STRACE
@pytest.mark.parametrize("options", [[], ["-f"], ["-f", "-qq", "-e", "trace=execve"]], ids=" ".join)
def test_strace_follows_a_program_that_uses_the_device(tmp_path: Path, options: list[str]) -> None:
    program = compiled(NODE, tmp_path)
    done = run(["strace", *options, "-o", tmp_path / "log", program])
    assert (done.returncode, done.stdout) == (0, "node\n"), done.stderr
    assert "execve(" in (tmp_path / "log").read_text(encoding="utf-8")


@NEEDS_STRACE
def test_strace_follows_what_a_program_starts(tmp_path: Path) -> None:
    program = compiled(NODE, tmp_path)
    done = run(["strace", "-f", "-o", tmp_path / "log", "sh", "-c", f"{program}; {program} | cat"])
    assert (done.returncode, done.stdout) == (0, "node\nnode\n"), done.stderr


@NEEDS_GDB
def test_gdb_starts_a_program_and_stops_where_it_is_told(tmp_path: Path) -> None:
    program = compiled(NODE, tmp_path, "-g")
    words = [
        "gdb",
        "-nx",
        "-batch",
        *PASS_SIGNALS,
        "-ex",
        "break main",
        "-ex",
        "run",
        "-ex",
        "bt",
        "-ex",
        "continue",
    ]
    done = run([*words, program])
    assert "in main" in done.stdout or "main ()" in done.stdout, done.stdout + done.stderr
    assert "node\n" in done.stdout
    assert "exited normally" in done.stdout


@pytest.mark.parametrize("how", ["continue", "syscalls"])
@pytest.mark.parametrize("spawn", ["fork", "vfork"])
def test_a_child_that_asks_to_be_traced_gets_the_device(tmp_path: Path, how: str, spawn: str) -> None:
    program = compiled(NODE, tmp_path, name="node")
    tracer = compiled(TRACER, tmp_path, name="tracer")
    done = run([tracer, how, program, *(["vfork"] if spawn == "vfork" else [])])
    assert (done.returncode, done.stdout) == (0, "node\n"), done.stderr


def test_a_child_that_asks_to_be_traced_runs_alone_as_supervised(tmp_path: Path) -> None:
    tracer = compiled(TRACER, tmp_path, name="tracer")
    for words in (["continue", "/bin/true"], ["syscalls", "/bin/true"], ["continue", "/bin/true", "vfork"]):
        assert run([tracer, *words]).returncode == run([tracer, *words], under=False).returncode == 0
