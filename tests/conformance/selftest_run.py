"""Running a program of the kernel's selftests to its end, and reading what it says (TAP, kselftest_harness.h).

What was learnt of the harness:

- Each test is a child in a process group of its own, so killing the program's group is not enough. Here all are found
  by a variable of their environment, or by their session.
- Linux 6.1 prints a skipped test as ``ok N # SKIP reason``, without a name; the name is in the line above, ``# RUN``.
- A failed assertion is on stderr. One file takes both, so that it stands between ``# RUN`` and the result.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

__all__ = ["Report", "Run", "Status", "TapError", "read_tap", "run_selftest"]

_MARK = "SWSGX_SELFTEST_RUN"
_STARTED = re.compile(r"#  RUN           (\S+) \.\.\.")
_ENDED = re.compile(r"(?P<bad>not )?ok (?P<number>\d+)(?: (?P<name>[^#\s]\S*))?(?P<skip> # SKIP.*)?")
_PLAN = re.compile(r"1\.\.(\d+)")


class TapError(Exception):
    """The output is not what kselftest_harness.h prints."""


class Status(Enum):
    """How a test ended; ``UNFINISHED`` is one that has no result line."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Report:
    """What was said of one test.

    Attributes:
        status: how it ended.
        text: the lines from ``# RUN`` to its result.
    """

    status: Status
    text: str


@dataclass(frozen=True)
class Run:
    """A run that is over: nothing of it is left.

    Attributes:
        status: the exit status, negative for a signal; None if it was killed at its time limit.
        planned: how many tests it announced; 0 if it did not get so far.
        tests: what was said of each, by its name without the fixture's, in their order.
        left: names of processes that were there after its end, and were killed.
        text: all its output.
    """

    status: int | None
    planned: int
    tests: dict[str, Report]
    left: tuple[str, ...]
    text: str


def read_tap(text: str) -> tuple[int, dict[str, Report]]:
    """The number of tests in the plan, and what is said of each.

    Raises:
        TapError: a result belongs to no test, to another one than is running, or has the wrong number.
    """
    planned, tests = 0, dict[str, Report]()
    name, lines = "", list[str]()
    for line in text.splitlines():
        lines.append(line)
        if plan := _PLAN.fullmatch(line):
            planned = int(plan[1])
        elif started := _STARTED.fullmatch(line):
            name, lines = started[1].rpartition(".")[2], [line]
            if name in tests:
                raise TapError(f"{name} runs twice")
            tests[name] = Report(Status.UNFINISHED, line)
        elif ended := _ENDED.fullmatch(line):
            said = (ended["name"] or name).rpartition(".")[2]
            if not name or said != name or int(ended["number"]) != len(tests):
                raise TapError(f"{line!r} is said while {name or 'no test'} runs, as number {len(tests)}")
            status = Status.SKIPPED if ended["skip"] else Status.PASSED
            tests[name] = Report(Status.FAILED if ended["bad"] else status, "\n".join(lines))
            name = ""
        elif name:
            tests[name] = Report(Status.UNFINISHED, "\n".join(lines))
    return planned, tests


def _alive(mark: str, session: int) -> Iterator[tuple[int, str]]:
    """Processes that have the mark in their environment, or are in the session; no zombies."""
    wanted = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            name, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")
            state, _parent, _group, of = rest.split()[:4]
            if state in "ZX":
                continue
            marked = int(of) == session
            with contextlib.suppress(OSError):
                marked = marked or wanted in (folder / "environ").read_bytes().split(b"\0")
            if marked:
                yield int(folder.name), name.partition("(")[2]


def _kill_all(mark: str, session: int) -> None:
    give_up = time.monotonic() + 20
    while found := list(_alive(mark, session)):
        if time.monotonic() > give_up:
            raise TimeoutError(f"these do not die: {found}")
        for pid, _ in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def run_selftest(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float, grace: float = 5
) -> Run:
    """Run to the end, or to the limit; then kill whatever is left of it.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environment: what it gets, besides a variable of ours.
        limit: seconds after which all its processes are killed.
        grace: seconds that others of its processes have to end after it.

    Raises:
        TapError: see :func:`read_tap`.
    """
    mark = secrets.token_hex(16)
    output = folder / f"output-{mark}"
    status: int | None = None
    left: list[tuple[int, str]] = []
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, _MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(limit)
            if status is not None:
                end = time.monotonic() + grace
                while (left := list(_alive(mark, process.pid))) and time.monotonic() < end:
                    time.sleep(0.02)
        finally:
            _kill_all(mark, process.pid)
            process.wait()
    text = output.read_text(encoding="utf-8", errors="replace")
    output.unlink()
    planned, tests = read_tap(text)
    return Run(status, planned, tests, tuple(name for _, name in left), text)
