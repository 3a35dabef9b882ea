"""A program under ``swsgx run`` that does what it is told (``tests/programs/sgx/figures.c``), and what figures say."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swsgx.supervisor import trees
from tests.make.supervised import environment, swsgx_run

__all__ = ["Told", "answer", "machine", "running", "supervisor_of", "swsgx"]

_SWSGX = [sys.executable, "-c", "from swsgx.cli.entry import main; main()"]


class Told:
    """A program under ``swsgx run`` that does what it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def do(self, word: str, number: int = 0) -> None:
        """One thing, to its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word} {number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0


@contextmanager
def running(*words: str | Path, options: tuple[str, ...] = ()) -> Iterator[Told]:
    command = [*swsgx_run()[:-1], *options, "--", *map(str, words)]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            supervisor_of(process.pid)
            yield Told(process)
        finally:
            process.kill()


def swsgx(*words: object, **how: Any) -> subprocess.CompletedProcess[str]:
    command = [*_SWSGX, *map(str, words)]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, check=False, **how
    )


def answer(pid: int) -> dict[str, Any]:
    """What ``swsgx stat --json`` says of a tree."""
    done = swsgx("stat", "--json", pid)
    assert done.returncode == 0, done.stderr
    (tree,) = json.loads(done.stdout)["trees"]
    assert isinstance(tree, dict)
    return tree


def machine(pid: int) -> dict[str, Any]:
    found = answer(pid)["machine"]
    assert isinstance(found, dict)
    return found


def supervisor_of(front: int) -> int:
    """The supervisor, when it listens."""
    for _ in range(500):
        found = [tree.supervisor for tree in trees.trees() if tree.front == front]
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"{front} does not listen")
