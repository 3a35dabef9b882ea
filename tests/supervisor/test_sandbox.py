"""``swsgx run`` where little is allowed: as an ordinary user, without capabilities, under filters of containers.

Where that is too little it says what is missing, in one line, and ends with 125.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.make.native_enclave import NEEDS_GCC
from tests.make.sandbox import NOBODY, confined
from tests.make.sgx_program import Programs
from tests.make.supervised import compiled, environment, swsgx_run

_ROOT = os.getuid() == 0

#: Where all must work. Who is no user of his own is root here, or whoever runs the tests.
WORKS: Mapping[str, Mapping[str, Any]] = {
    "an ordinary user": {"user": NOBODY},
    "no capabilities": {"capabilities": False},
    "a user namespace": {"namespace": True},
    "a user namespace without capabilities": {"namespace": True, "capabilities": False},
    "an ordinary user's namespace without capabilities": {
        "user": NOBODY,
        "namespace": True,
        "capabilities": False,
    },
    "a container": {"docker": True},
    "a container, as an ordinary user": {"docker": True, "user": NOBODY, "capabilities": False},
}
#: What is refused, and what is said then.
REFUSED = {
    "ptrace": "swsgx run: ptrace is refused here (Operation not permitted)",
    "ptrace=38": "swsgx run: ptrace is refused here (Function not implemented)",
    "prctl": "swsgx run: prctl is refused here (Operation not permitted)",
    "notification": "swsgx run: a seccomp filter with user notification is refused here",
    "seccomp": "swsgx run: a seccomp filter with user notification is refused here",
    "process_vm_readv": "swsgx run: process_vm_readv is refused here (Operation not permitted)",
    "process_vm_writev=38": "swsgx run: process_vm_writev is refused here (Function not implemented)",
    "memfd_create": "swsgx run: memfd_create is refused here (Operation not permitted)",
    "pidfd_open": "swsgx run: pidfd_open is refused here (Operation not permitted)",
}

TREE = 'echo "$0 $1"; for i in 1 2 3; do (sh -c "exit $i"; echo $?) | cat; done; exit 7'

NON_DUMPABLE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
	int status;
	prctl(PR_SET_DUMPABLE, 0);
	printf("%d %d\n", open("/proc/cpuinfo", O_RDONLY) >= 0, prctl(PR_GET_DUMPABLE));
	fflush(stdout);
	if (!fork()) {
		execl("/bin/echo", "echo", "child", (char *)0);
		_exit(9);
	}
	wait(&status);
	printf("%d\n", status);
	return 0;
}
"""


def run(*words: str | Path, under: bool = True, **how: Any) -> subprocess.CompletedProcess[str]:
    """A command in a sandbox; ``under`` supervision or without."""
    command = confined(*(swsgx_run() if under else []), *words, **how)
    return subprocess.run(
        command, cwd="/", env=environment(), capture_output=True, text=True, timeout=40, check=False
    )


@pytest.fixture(params=WORKS, ids=lambda name: name.replace(" ", "-"))
def place(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """How to get into each place; skips what cannot be made here."""
    how = WORKS[request.param]
    if "user" in how and not _ROOT:
        pytest.skip("becoming another user takes root; run as an ordinary one, all other tests are this test")
    done = run("true", under=False, **how)
    if done.returncode:
        pytest.skip(f"{request.param} cannot be made here: {done.stderr.splitlines()[-1]}")
    return how


def test_process_tree_does_the_same(place: Mapping[str, Any]) -> None:
    alone, under = (run("sh", "-c", TREE, "a", "b c", under=way, **place) for way in (False, True))
    assert (under.returncode, under.stdout, under.stderr) == (7, "a b c\n1\n2\n3\n", "")
    assert (alone.returncode, alone.stdout, alone.stderr) == (7, "a b c\n1\n2\n3\n", "")


@NEEDS_GCC
@pytest.mark.parametrize("name", ["enter_registers", "ioctl_processes", "memory_abort_page"])
def test_program_uses_sgx(name: str, place: Mapping[str, Any], programs: Programs) -> None:
    program = programs.build(f"{name}.c")
    done = run(program, **place, reach=[program])
    assert (done.returncode, done.stdout, done.stderr) == (0, "EXIT-SUCCESS\n", "")


@pytest.mark.parametrize("what", REFUSED, ids=lambda what: what.replace("=", "-"))
def test_what_is_refused_is_said_in_one_line_and_ends_with_125(what: str) -> None:
    done = run("sh", "-c", "echo started", refused=[what])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(REFUSED[what])
    assert done.stderr.count("\n") == 1


def test_a_missing_proc_is_said() -> None:
    script = 'umount -l /proc || exit 77; exec "$@"'
    if not _ROOT or run("unshare", "-m", "sh", "-c", script, "sh", "true", under=False).returncode:
        pytest.skip("taking /proc away takes root and a mount namespace")
    done = run("unshare", "-m", "sh", "-c", script, "sh", *swsgx_run(), "true", under=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "swsgx run: there is no /proc here: mount it\n"


@NEEDS_GCC
def test_ordinary_users_program_that_cannot_be_dumped_does_the_same(tmp_path: Path) -> None:
    how: dict[str, Any] = {"user": NOBODY} if _ROOT else {}
    program = compiled(NON_DUMPABLE, tmp_path)
    alone, under = (run(program, under=way, **how, reach=[program]) for way in (False, True))
    assert (alone.returncode, alone.stdout) == (0, "1 0\nchild\n0\n")
    assert (under.returncode, under.stdout, under.stderr) == (0, "1 0\nchild\n0\n", "")
