"""The enclave of ``tests/programs/sgx/paging_storm.c``, as large as one likes; and supervisors that are looked at."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from swsgx.isa.address import PAGE_SIZE
from tests.make import supervised
from tests.make.native_enclave import Block, Source, Thread
from tests.make.sgx_program import FOLDER

__all__ = ["THREADS", "Running", "Usage", "written_enclave"]

#: Those of the host, and one for children of a fork.
THREADS = 5
#: At most so many other pages and holes.
_OTHERS = 128


def written_enclave(path: Path, pages: int) -> Path:
    """Sign it, and write it as the host reads it: ``struct file`` of the program, and its pieces.

    Args:
        path: the file.
        pages: of data.
    """
    code = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in ("storm.h", "storm.S"))
    size = 1 << ((pages + _OTHERS) * PAGE_SIZE - 1).bit_length()
    blocks = (Block("data", pages),)
    built = Source(code, threads=(Thread(),) * THREADS, blocks=blocks, size=size).build()
    plan = built.plan
    with path.open("wb") as file:
        file.write(struct.pack("<4Q", built.size, len(plan.entries), built.symbols["data"], pages))
        file.write(struct.pack(f"<{THREADS}Q", *plan.tcs) + bytes(built.sigstruct))
        for run in plan.entries:
            content = bytes(run.content or b"")
            file.write(struct.pack("<4Q", run.offset, run.count * PAGE_SIZE, run.secinfo_flags, len(content)))
            file.write(content)
    return path


class Running:
    """A program under ``swsgx run`` that can be looked at, and its supervisor. As a context: it is ended.

    Args:
        words: the program and its arguments.
        options: of ``swsgx run``.
        how: for :class:`subprocess.Popen`.
    """

    def __init__(self, words: Sequence[str | Path], options: Sequence[str], **how: Any) -> None:
        before = supervised.swsgx_run()
        command = [*before[:-1], *options, "--", *map(str, words)]
        given: dict[str, Any] = {"env": supervised.environment(), "text": True, "cwd": "/", **how}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.front = subprocess.Popen(command, **{**pipes, **given})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.front.kill()
        self.front.communicate()

    @property
    def supervisor(self) -> int:
        """Its process; 0 before it is there, and behind its end."""
        return next(iter(_children(self.front.pid)), 0)

    @property
    def program(self) -> int:
        """The program's process."""
        return next(iter(_children(self.supervisor)), 0)

    def line(self) -> str:
        """What the program says next."""
        assert self.front.stdout is not None
        return str(self.front.stdout.readline()).rstrip("\n")

    def say(self, word: str) -> None:
        """Answer it."""
        assert self.front.stdin is not None
        self.front.stdin.write(f"{word}\n")
        self.front.stdin.flush()

    def end(self, timeout: float = 60) -> tuple[int, str, str]:
        """Wait for it: exit status, the rest of what it says, and what stands on stderr."""
        said, told = self.front.communicate(timeout=timeout)
        return self.front.returncode, str(said), str(told)

    def memfds(self) -> dict[str, Path]:
        """The supervisor's shared memory, by name."""
        return {name: path for path, name in self._files()}

    def _files(self) -> Iterator[tuple[Path, str]]:
        with contextlib.suppress(FileNotFoundError):
            for path in Path(f"/proc/{self.supervisor}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    name = str(path.readlink())
                    if name.startswith("/memfd:"):
                        yield path, name.removeprefix("/memfd:").removesuffix(" (deleted)")

    def usage(self) -> Usage:
        """What the supervisor uses now; zeros if it has ended."""
        shared, count = {}, 0
        for path, _ in self._files():
            with contextlib.suppress(FileNotFoundError):
                about = path.stat()
                count, shared[about.st_ino] = count + 1, about.st_blocks * 512
        return Usage(_anonymous(self.supervisor), sum(shared.values()), count)


@dataclass(frozen=True)
class Usage:
    """Memory.

    Attributes:
        own: bytes that are the supervisor's alone.
        shared: bytes of all its memfds.
        files: descriptors of those.
    """

    own: int
    shared: int
    files: int


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)
