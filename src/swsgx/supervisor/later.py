"""Filters that a process gets when it does something that few programs do: its calls of some kinds are trapped then."""

from __future__ import annotations

import struct
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from swsgx.supervisor.kinship import leader_of
from swsgx.supervisor.steps import Call, Step, Store

if TYPE_CHECKING:
    from swsgx.supervisor.calls.asked import Asked

__all__ = ["LaterFilter"]

_NR_SECCOMP = 317
_SET_MODE_FILTER, _TSYNC = 1, 1


class LaterFilter:
    """A filter that comes on top of a program's others, once a process. Children inherit it, and may get another.

    Args:
        program: its instructions.
        scratch: address of room for it in each program.
    """

    def __init__(self, program: bytes, scratch: int) -> None:
        self._program = program
        self._scratch = scratch
        self._trapped: set[tuple[int, int]] = set()

    def install(
        self, asked: Asked, result: int | None = None
    ) -> Generator[list[Step], list[int], int | None]:
        """Have a process's calls trapped from now on; the result is that of the call which it makes."""
        pid = leader_of(asked.tid)
        # Numbers of processes come again; their folders' inodes do not.
        key = pid, Path(f"/proc/{pid}").stat().st_ino
        if key not in self._trapped:
            at = self._scratch + 16
            code = struct.pack("<HxxxxxxQ", len(self._program) // 8, at + 16) + self._program
            made = yield [Store(at, code), Call(_NR_SECCOMP, (_SET_MODE_FILTER, _TSYNC, at))]
            if made == [0]:
                self._trapped.add(key)
        return result
