"""One armed process: what the driver knows of it, and the way into its tables."""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swsgx.linux.mm import AddressSpace
from swsgx.linux.task import BadAddress, Task
from swsgx.native.abi import (
    AREA_COUNT,
    LP_COUNT,
    LP_SIZE,
    LogicalProcessor,
    TargetState,
    ThreadRecord,
    VmaBits,
)
from swsgx.supervisor.files import Descriptors, NodeFiles
from swsgx.supervisor.memory import TargetMemory

if TYPE_CHECKING:
    from swsgx.linux.encl import EnclaveMapping
    from swsgx.supervisor.engine import TargetEngine
    from swsgx.supervisor.security import Security

__all__ = ["TargetProcess", "status_of"]

#: Links of a folder with one folder in it.
_FOLDER_OF_ONE = 3


def status_of(tid: int) -> dict[str, str]:
    """The lines of ``/proc/TID/status``; empty when it is gone."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as lines:
            return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return {}


def _merged(ranges: Iterable[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Ascending ranges that cover the given ones, at most ``limit``: where gaps are smallest they are covered, too."""
    merged: list[tuple[int, int]] = []
    for start, end in ranges:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    if len(merged) <= limit:
        return merged
    # Covering a gap changes no other, so those that stay open can be chosen at once.
    gaps = range(len(merged) - 1)
    kept = sorted(heapq.nlargest(limit - 1, gaps, key=lambda i: merged[i + 1][0] - merged[i][1]))
    starts = [merged[0][0], *(merged[at + 1][0] for at in kept)]
    ends = [*(merged[at][1] for at in kept), merged[-1][1]]
    return list(zip(starts, ends, strict=True))


class TargetProcess:
    """A process that uses SGX.

    Args:
        key: its number, ours to give.
        pid: of its leader.
        mm: its enclave mappings.
        engine: what carries them out.
        state_address: where its image keeps :class:`~swsgx.native.abi.TargetState`.

    Attributes:
        memory: its memory.
        turns: answers that wait for those before them; the service's own.
        busy: one is being given.
        stale: enclaves that nobody enters before the process has done what is decided of its mappings.
        unconfirmed: token of the last answer with calls, if it need not be told how they ended; 0: none.
        forks: copies of it that are about to be made.
        label: its security label at its last question; None: there was none, or nobody wants to know.
        ended: it is gone, or another program.
    """

    def __init__(
        self, key: int, pid: int, mm: AddressSpace, engine: TargetEngine, state_address: int
    ) -> None:
        self.key = key
        self.pid = pid
        self.mm = mm
        self.engine = engine
        self.state_address = state_address
        self.memory: TargetMemory = engine.memory
        self.turns: deque[Any] = deque()
        self.busy = False
        self.unconfirmed = 0
        self.forks = 0
        self.label: str | None = None
        self.ended = False
        self.stale: list[EnclaveMapping] = []
        self._areas: list[tuple[int, int]] = []
        self._areas_of = 0

    def task(self, tid: int, blocked: int, files: NodeFiles, security: Security | None = None) -> Task:
        """The process as the caller of an ioctl."""

        def pending() -> bool:
            status = status_of(tid)
            waiting = int(status.get("SigPnd", "0"), 16) | int(status.get("ShdPnd", "0"), 16)
            # What has no handler and does not end the process is not waited for by anybody.
            quiet = int(status.get("SigIgn", "0"), 16) | _IGNORED_BY_DEFAULT & ~int(
                status.get("SigCgt", "0"), 16
            )
            return bool(waiting & ~blocked & ~quiet)

        return Task(
            self.memory,
            self.mm,
            personality=self.personality(),
            files=Descriptors(files, self.pid),
            signal_pending=pending,
            subject=security.subject(tid) if security is not None else None,
            provenance=security.provenance(self.pid) if security is not None else None,
        )

    def ask_before_entering(self, mapping: EnclaveMapping) -> None:
        """Whoever wants to enter an enclave asks, from now until :meth:`done`. The address space's lock is held."""
        mapping.bits[:] |= np.uint8(VmaBits.STALE)
        # What a thread remembers of its last entry is not good any more.
        mapping.encl.store.changed()
        self.stale.append(mapping)

    def inherit(self) -> None:
        """A fork's child: its parent's mappings were copied, and what is decided of them is the child's to do, too."""
        self.stale = [m for m in self.mm.mappings.values() if (m.bits & np.uint8(VmaBits.STALE)).any()]

    def done(self) -> None:
        """What was decided of the process's mappings is done. The address space's lock is held."""
        for mapping in self.stale:
            mapping.bits[:] &= np.uint8(~VmaBits.STALE & 0xFF)
        self.stale.clear()

    @property
    def has_one_thread(self) -> bool:
        """Whether the process has one thread only."""
        try:
            return Path(f"/proc/{self.pid}/task").stat().st_nlink == _FOLDER_OF_ONE
        except OSError:
            return False

    def processors(self) -> Iterator[LogicalProcessor]:
        """The blocks that its threads have or had; none when it is gone."""
        with contextlib.suppress(BadAddress):
            for index in range(LP_COUNT):
                at = self.engine.state.lps + index * LP_SIZE
                lp = LogicalProcessor(bytearray(self.memory.read(at, LogicalProcessor.size_of)))
                if not lp.attached and not lp.fsbase:
                    break  # blocks are taken in order
                yield lp

    def tcs_of(self, lp: LogicalProcessor) -> int:
        """Linear address of the TCS that a thread is inside with; 0: it is outside."""
        if lp.attached and lp.record:
            with contextlib.suppress(BadAddress):
                (tcs,) = struct.unpack("<Q", self.memory.read(lp.record + ThreadRecord.tcs.offset, 8))
                return int(tcs)
        return 0

    def inside(self) -> set[int]:
        """Linear addresses of the TCSs that threads of the process are inside with."""
        return {tcs for lp in self.processors() if (tcs := self.tcs_of(lp))}

    def personality(self) -> int:
        """personality(2) of the process."""
        try:
            with open(f"/proc/{self.pid}/personality", encoding="ascii") as file:
                return int(file.read(), 16)
        except OSError:
            return 0

    @property
    def must_follow(self) -> bool:
        """Whether it lives and has not done yet what was decided for it."""
        return (self.engine.pending or self.busy) and not self.ended

    def call(self) -> None:
        """Have it ask us, from wherever it is, by a signal that only the monitor sees."""
        with contextlib.suppress(BadAddress, ProcessLookupError):
            self.memory.write(self.state_address + TargetState.called.offset, struct.pack("<I", 1))
            os.kill(self.pid, signal.SIGSYS)

    def tell_areas(self) -> None:
        """Let the process know where its enclave mappings are, if that has changed."""
        if self._areas_of == self.mm.changes:
            return
        self._areas_of = self.mm.changes
        areas = _merged(((vma.start, vma.end) for vma in self.mm.vmas), AREA_COUNT)
        if areas == self._areas:
            return
        self._areas = areas
        words = [word for area in areas for word in area]
        with contextlib.suppress(BadAddress):
            self.memory.write(
                self.state_address + TargetState.areas.offset, struct.pack(f"<{len(words)}Q", *words)
            )
            self.memory.write(
                self.state_address + TargetState.area_count.offset, struct.pack("<I", len(areas))
            )


#: SIGCHLD, SIGCONT, SIGURG, SIGWINCH.
_IGNORED_BY_DEFAULT = sum(1 << number - 1 for number in (17, 18, 23, 28))
