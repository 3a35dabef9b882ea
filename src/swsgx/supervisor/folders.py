"""Folders that show more than there is: /dev with the nodes, /dev/sgx which is not there at all, and some of sysfs.

A folder that is opened by its path makes the process's getdents64 be trapped from then on, by one more filter. Our
entries come behind the real ones: when the kernel has no more, once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from swsgx.supervisor.emulated_files import added, pack_dirents
from swsgx.supervisor.kinship import leader_of
from swsgx.supervisor.later import LaterFilter
from swsgx.supervisor.steps import Call, Step

if TYPE_CHECKING:
    from swsgx.supervisor.calls.asked import Asked

__all__ = ["Folders"]

_NR_GETDENTS64 = 217
_EINVAL = -22


class Folders:
    """The folders of a tree.

    Args:
        trapped: the filter that traps getdents64.
    """

    def __init__(self, trapped: LaterFilter) -> None:
        self.trap_listing = trapped.install
        #: Those that are not there, by device and inode of what stands for them; we keep that open.
        self._made: dict[tuple[int, int], str] = {}
        self._kept: dict[str, int] = {}
        #: Listings that have come to our entries: process, descriptor, how many were told.
        self._told: dict[tuple[int, int], int] = {}

    @staticmethod
    def adds_to(path: str) -> bool:
        """Whether a folder has entries of ours."""
        return bool(added(path))

    def make(self, path: str) -> int:
        """Open what stands for a folder that is not there: one without a name, and empty."""
        kept = self._kept.get(path)
        if kept is None:
            name = tempfile.mkdtemp(prefix="swsgx-")
            try:
                kept = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            finally:
                Path(name).rmdir()
            status = os.fstat(kept)
            self._made[status.st_dev, status.st_ino] = path
            self._kept[path] = kept
        return os.open(f"/proc/self/fd/{kept}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def of(self, tid: int, fd: int) -> str | None:
        """The folder of ours that a task's descriptor is open for."""
        try:
            status = Path(f"/proc/{tid}/fd/{fd}").stat()
        except OSError:
            return None
        return self._made.get((status.st_dev, status.st_ino))

    def list(self, asked: Asked) -> Generator[list[Step], list[int], int | None]:
        """getdents64(2)."""
        fd, buffer, room, *_ = asked.args
        ours = self.of(asked.tid, fd & 0xFFFF_FFFF)
        key = leader_of(asked.tid), fd & 0xFFFF_FFFF
        if ours is None:
            (real,) = yield [Call(_NR_GETDENTS64, (fd, buffer, room))]
            if real:
                self._told.pop(key, None)
                return real
            ours = os.readlink(f"/proc/{asked.tid}/fd/{key[1]}")  # noqa: PTH115 - only the kernel can follow it
        entries = [entry for entry in added(ours) if not os.path.lexists(f"{ours}/{os.fsdecode(entry.name)}")]
        told = self._told.get(key, 0)
        data, count = pack_dirents(entries[told:], room & 0xFFFF_FFFF)
        if not count:
            self._told.pop(key, None)
            return _EINVAL if told < len(entries) else 0
        self._told[key] = told + count
        asked.memory.write(buffer, data)
        return len(data)
