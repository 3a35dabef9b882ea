"""SIGKILL at a random moment to anybody of a run that uses SGX: soon afterwards nothing of the run is left.

The program is ``tests/programs/sgx/kills.c``: threads load and enter enclaves all the time; children do so, too, become
other programs, and outlive their parents. Moments go from the first microseconds of ``swsgx run`` to the program's end,
so some are in the middle of an injection, of an ioctl, of a fork.

``SWSGX_KILLS=1000`` makes it that many kills, ``SWSGX_KILLS_SEED`` other moments.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from swsgx.supervisor.trees import trees as listening
from tests.make.native_enclave import NEEDS_GCC
from tests.make.sgx_program import Programs
from tests.make.supervised import environment, swsgx_run

pytestmark = NEEDS_GCC

VICTIMS = ("target", "child", "supervisor", "front", "thread", "front and supervisor")
_KILLS = int(os.environ.get("SWSGX_KILLS", "42"))
_SEED = os.environ.get("SWSGX_KILLS_SEED", "")
_ROUNDS = -(-_KILLS // len(VICTIMS))
_MARK = "SWSGX_KILLS_RUN"
#: Seconds until all is gone; on a busy machine nothing is quick.
_PATIENCE = 30
_ROOT = Path(__file__).resolve().parents[2]

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Place:
    """Where a run happens.

    Attributes:
        prefix: what stands before a command.
        program: the path of the program there.
        folders: of temporary files: nobody else writes there.
    """

    prefix: tuple[str, ...]
    program: str
    folders: tuple[Path, ...]

    def files(self) -> set[str]:
        """What is in the folders."""
        return {str(path) for folder in self.folders for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def place(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Folders of temporary files that are this test's alone, by a mount namespace; else only $TMPDIR is."""
    program = programs.build("kills.c")
    needed = [_ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    own = [f for f in ("/run", "/tmp", "/dev/shm") if not any(p.is_relative_to(f) for p in needed)]
    script = 'program=$1; shift; for f do mount -t tmpfs swsgx "$f"; [ "$f" = /run ] && cp "$program" /run/program;'
    script += " done; echo ready; read end"
    command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", str(program), *own]
    usable = shutil.which("unshare") and shutil.which("nsenter") and own[0] == "/run"
    if not usable or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        folder = tmp_path_factory.mktemp("temporary")
        yield Place(("env", f"TMPDIR={folder}"), str(program), (folder,))
        return
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        root = Path(f"/proc/{holder.pid}/root")
        prefix = ("nsenter", "-t", str(holder.pid), "-m", "--", "env", "TMPDIR=/tmp")
        yield Place(prefix, "/run/program", tuple(root / folder.lstrip("/") for folder in own))
        holder.stdin.close()


def fields_of(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the state on; none if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def marked(mark: str, session: int) -> set[int]:
    """Processes of a run, zombies left out: by their environment, or before they have it, their session."""
    wanted, found = f"{_MARK}={mark}".encode(), set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = fields_of(int(name))
        if not fields or fields[0] in "ZX":
            continue
        known = int(fields[3]) == session
        with contextlib.suppress(OSError):
            known = known or wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        if known:
            found.add(int(name))
    return found


def children(pid: int) -> list[int]:
    """Of a process's main thread, in the order of their birth."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def threads(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


@dataclass(frozen=True)
class Run:
    """One ``swsgx run``."""

    front: int
    mark: str

    @property
    def supervisor(self) -> int:
        return next(iter(children(self.front)), self.front)

    @property
    def target(self) -> int:
        """The first program. While it is not there: the youngest that is."""
        return next(iter(children(self.supervisor)), self.supervisor)

    def kill(self, victim: str, choice: random.Random) -> str:
        """Kill somebody; says whom."""
        if victim == "front and supervisor":
            both = [self.front, self.supervisor]
            choice.shuffle(both)
            for pid in both:
                kill(pid)
            return f"front {self.front} and supervisor, in the order {both}"
        if victim == "thread":
            # A signal to a thread is one to the process, but it is that thread which dies of it first.
            every = [(pid, tid) for pid in sorted(marked(self.mark, self.front)) for tid in threads(pid)]
            pid, tid = choice.choice(every or [(self.front, self.front)])
            name = self._role(pid)
            _libc.tgkill(pid, tid, signal.SIGKILL)
            return f"thread {tid} of {name} {pid}"
        if victim == "child":
            others = marked(self.mark, self.front) - {self.front, self.supervisor, self.target}
            pid = choice.choice(sorted(others)) if others else self.target
        else:
            pid = {"front": self.front, "supervisor": self.supervisor, "target": self.target}[victim]
        name = self._role(pid)
        kill(pid)
        return f"{name} {pid}"

    def _role(self, pid: int) -> str:
        """At the very beginning, whoever was meant is not there yet."""
        if pid == self.front:
            return "front"
        return "supervisor" if fields_of(pid)[1:2] == [str(self.front)] else "target"


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def shown(pid: int) -> str:
    """For a failure's message: who is left, and what it waits for."""
    lines = [f"{pid} {' '.join(fields_of(pid)[:3])}"]
    for tid in threads(pid):
        with contextlib.suppress(OSError):
            task = Path(f"/proc/{pid}/task/{tid}")
            words = [(task / name).read_text().strip() for name in ("comm", "wchan", "syscall")]
            lines.append(f"  {tid} {' '.join(words)}")
    return "\n".join(lines)


def wait_until_gone(run: Run) -> None:
    """All of it, within some seconds; else it fails, and kills what is left."""
    end = time.monotonic() + _PATIENCE
    while left := marked(run.mark, run.front):
        if time.monotonic() > end:
            text = "\n".join(shown(pid) for pid in sorted(left))
            for pid in left:
                kill(pid)
            pytest.fail(f"these are left:\n{text}")
        time.sleep(0.02)


def wait_until_silent(run: Run) -> None:
    """The socket for ``swsgx stat`` goes with the last thread of the supervisor, which may outlive the first."""
    end = time.monotonic() + _PATIENCE
    while any(tree.front == run.front for tree in listening()):
        assert time.monotonic() < end, "its socket is left"
        time.sleep(0.02)


def moment(choice: random.Random, length: float) -> float:
    """Seconds: half of them while everything starts, the others whenever."""
    if choice.random() < 0.5:
        return choice.uniform(0, 0.25)
    return choice.uniform(0, length + 0.3)


def one(place: Place, victim: str, choice: random.Random, output: Path) -> None:
    """One run and one kill."""
    length = choice.choice([0.3, 0.5, 1]) if _KILLS <= 100 else choice.choice([0.3, 0.5, 1, 2])
    delay, mark = moment(choice, length), secrets.token_hex(16)
    words = [*place.prefix, *swsgx_run(), place.program, str(int(length * 1000))]
    with output.open("wb") as file:
        process = subprocess.Popen(
            words,
            env={**environment(), _MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    run = Run(process.pid, mark)
    try:
        time.sleep(delay)
        whom = f"{run.kill(victim, choice)} after {delay:.6f} s of {length} s"
        wait_until_gone(run)
        wait_until_silent(run)
    finally:
        kill(process.pid)
        process.wait()
    text = output.read_text(errors="replace")
    said = f"{whom}: status {process.returncode}\n{text}"
    assert "bug in swsgx" not in text, said
    assert "Traceback" not in text, said
    if "supervisor" in whom:
        assert process.returncode in (125, -signal.SIGKILL, 0), said
    else:
        # Whoever was not killed has noticed nothing: 1 is a failed check of the program's.
        assert process.returncode in (-signal.SIGKILL, 0), said
        assert "expected" not in text, said


@pytest.mark.timeout(120 + 10 * _ROUNDS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_is_left_after_a_kill_at_a_random_moment(victim: str, place: Place, tmp_path: Path) -> None:
    before = place.files()
    for number in range(_ROUNDS):
        seed = f"{_SEED}{victim}{number}"
        try:
            one(place, victim, random.Random(seed), tmp_path / "output")
        except BaseException as error:
            error.add_note(f"kill {number} of {_ROUNDS}, seed {seed!r}")
            raise
        left = place.files() - before
        assert not left, f"kill {number} of {_ROUNDS}, seed {seed!r}"


def descriptors(pid: int) -> list[str]:
    """What a process has open, sorted."""
    folder, found = Path(f"/proc/{pid}/fd"), []
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            found.append(str((folder / name).readlink()))
    return sorted(found)


def kinds(descriptors: list[str]) -> list[str]:
    """Without numbers, which are the machine's."""
    return sorted(re.sub(r"\d+", "N", name) for name in descriptors)


@pytest.mark.timeout(300)
def test_machine_takes_everything_back_from_programs_that_are_killed(place: Place, tmp_path: Path) -> None:
    """One run in which programs are killed: its supervisor goes on, and holds in the end what it held at first."""
    choice, mark = random.Random(_SEED), secrets.token_hex(16)
    script = f'while read length; do "{place.program}" $length >/dev/null & echo $!; done; exec {place.program} 300'
    words = [*place.prefix, *swsgx_run()[:-1], "--epc", "16M", "--", "sh", "-c", script]
    process = subprocess.Popen(
        words,
        env={**environment(), _MARK: mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    run = Run(process.pid, mark)
    with process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None

            def started(length: int) -> int:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{length}\n")
                process.stdin.flush()
                return int(process.stdout.readline())

            def only_the_shell() -> bool:
                return marked(mark, process.pid) == {process.pid, run.supervisor, run.target}

            def quiet() -> None:
                end = time.monotonic() + _PATIENCE
                while not only_the_shell():
                    assert time.monotonic() < end, [shown(pid) for pid in marked(mark, process.pid)]
                    time.sleep(0.02)

            started(100)
            quiet()
            time.sleep(0.2)  # the supervisor hears of the last one's end
            before = kinds(descriptors(run.supervisor))
            for _ in range(25):
                pid = started(500)
                time.sleep(choice.uniform(0, 0.4))
                kill(pid)
            quiet()
            end = time.monotonic() + 30  # a child that dies before it asks is given 10 s
            while kinds(descriptors(run.supervisor)) != before and time.monotonic() < end:
                time.sleep(0.05)
            assert kinds(descriptors(run.supervisor)) == before
            process.stdin.close()
            assert process.stdout.read() == "EXIT-SUCCESS\n"
            assert process.wait(30) == 0
        finally:
            for pid in marked(mark, process.pid):
                kill(pid)
