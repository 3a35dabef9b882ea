"""The pages of one enclave on their way out of the EPC and back.

Out, in three steps, since whoever is using a page must be kept from it first (encl.c and main.c, sgx_reclaim_pages):

1. :meth:`EnclavePaging.begin`: EBLOCK and ETRACK. Then :meth:`~swsgx.linux.encl.Encl.zap` takes the pages out
   of every address space.
2. ``driver.shootdown`` makes that true in every process, and makes every thread leave the enclave once.
3. :meth:`EnclavePaging.finish`: EWB, into the backing file; the frames are free.

Back, :meth:`EnclavePaging.load`: the SECS first if it is out, then ELDU.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swsgx.cpu.encls import eblock, eldu, ewb
from swsgx.cpu.encls.etrack import etrack
from swsgx.cpu.faults import Fault, LeafResult, invariant
from swsgx.cpu.machine import SecsState
from swsgx.cpu.memory import ScratchMemory
from swsgx.cpu.pager import BLOCK, MAC_SIZE, ROW_SIZE
from swsgx.cpu.store import consecutive
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.errors import SgxError
from swsgx.isa.structs import Pageinfo, Pcmd
from swsgx.linux.backing import Backing, Indexes, VersionSlots
from swsgx.linux.outcome import OK, Outcome, refuse
from swsgx.native.abi import EpcmState
from swsgx.trace import Reason

if TYPE_CHECKING:
    from swsgx.linux.encl import Encl

__all__ = ["READ_AHEAD", "EnclavePaging"]

#: Who loads page after page in ascending order gets some of the next ones with it, twice as many each time, as long as
#: EPC is plenty; no program can tell. The first and the largest number of them.
READ_AHEAD = (4, 128)


class EnclavePaging:
    """What the driver keeps of an enclave's evicted pages. All methods want the enclave's mutex held.

    Args:
        encl: the enclave.

    Attributes:
        slots: its version slots.
        backing: where evicted pages are; None before the first.
        broken: why it can never run again: what came back from the backing file was not what had been written.
        evicted: pages that are out, the SECS not among them.
        usable: by page index, what the enclave may do with the page when it is loaded: R 1, W 2, X 4; 0 unless it is a
            REG page that waits for no EACCEPT; 0 for pages that are not out.
    """

    def __init__(self, encl: Encl) -> None:
        self.encl = encl
        self.slots = VersionSlots(encl.driver.cpu.epc.base, encl.va_pages)
        self.backing: Backing | None = None
        self.broken: Reason | None = None
        self.evicted = 0
        self._loaded: list[Indexes] = []
        self._next = -1
        self._ahead = 0
        self.usable: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        # By page index, and the SECS behind the last: the number of its version slot plus one, or 0.
        self._slot: npt.NDArray[np.int32] = np.empty(0, np.int32)

    def settle(self) -> None:
        """The enclave has a range now."""
        pages = self.encl.size // PAGE_SIZE
        self._slot = np.zeros(pages + 1, np.int32)
        self.usable = np.zeros(pages, np.uint8)

    def is_evicted(self, index: int) -> bool:
        """Whether the page is out."""
        return bool(self._slot[index])

    def forget(self, first: int, count: int) -> None:
        """Pages that are in the EPC were removed."""
        invariant(
            not self._slot[first : first + count].any(),
            "paging: only pages in the EPC are removed",
            first=first,
            count=count,
        )

    @property
    def _state(self) -> SecsState:
        return self.encl.state

    def blocked(self, indexes: Indexes) -> npt.NDArray[np.bool_]:
        """Which pages are on their way out."""
        frames = self.encl.store.frame_map[indexes]
        at = np.where(frames != 0, frames, 1) - np.uint32(1)
        states = self.encl.driver.cpu.epcm.columns["state"][at]
        found: npt.NDArray[np.bool_] = (frames != 0) & (states & EpcmState.BLOCKED != 0)
        return found

    # Out.

    def begin(self, indexes: Indexes) -> Indexes:
        """Block those of the pages that are in the EPC and not blocked, and begin to track; which they are."""
        encl, cpu = self.encl, self.encl.driver.cpu
        if encl.secs is None:
            return indexes[:0]
        frames = encl.store.frame_map[indexes]
        indexes = indexes[(frames != 0) & ~self.blocked(indexes)]
        if len(indexes):
            eblock.run(cpu, encl.secs_address, encl.store.frame_map[indexes] - np.uint32(1))
            etrack(cpu, encl.secs_address)
        return indexes

    def finish(self, indexes: Indexes) -> Indexes:
        """EWB what was blocked; which pages are still not tracked (another ETRACK was made for them).

        Callers know that whoever was inside when the pages were blocked has left. The machine's tracking alone does
        not say so: the ioctls of SGX2 let it count their interrupt, which need not really happen for their sake.

        Raises:
            OSError: the host has no memory for them; those before were written out.
        """
        encl, cpu = self.encl, self.encl.driver.cpu
        if encl.secs is None:
            return indexes[:0]
        indexes = indexes[self.blocked(indexes)]
        for at in range(0, len(indexes), BLOCK):
            block = indexes[at : at + BLOCK]
            written = self._write(block)
            if written < len(block):
                etrack(cpu, encl.secs_address)
                return indexes[at + written :]
        if encl.initialised and not self._state.children:
            self._write_secs()
        return indexes[:0]

    def _write(self, indexes: Indexes) -> int:
        """EWB of one block; how many, up to one that is not tracked, or in use."""
        encl, cpu = self.encl, self.encl.driver.cpu
        backing = self._file()
        backing.pin(indexes)
        frames = encl.store.frame_map[indexes] - np.uint32(1)
        numbers = self.slots.take(len(indexes))
        pcmds = np.empty((len(indexes), Pcmd.size_of), np.uint8)
        before = self._state.children
        for first, count in consecutive(indexes):
            self.usable[first : first + count] = encl.usable(first, first + count)
        with cpu.scratch.table(len(indexes), ROW_SIZE) as sealed:
            with contextlib.suppress(Fault):
                ewb.run(cpu, encl.secs_address, frames, self.slots.addresses(numbers), sealed, pcmds)
            done = before - self._state.children
            backing.store(indexes[:done], sealed[:done], pcmds[:done])
        self._slot[indexes[:done]] = numbers[:done] + 1
        self.slots.give(numbers[done:])
        cpu.epc.free(frames[:done])
        self.evicted += done
        encl.driver.count("ewb", done)
        return done

    def _file(self) -> Backing:
        if self.backing is None:
            self.backing = Backing(self.encl.number, self.encl.size // PAGE_SIZE)
        return self.backing

    def _write_secs(self) -> None:
        """The last child has left: the SECS follows."""
        encl, cpu = self.encl, self.encl.driver.cpu
        backing, frame = self._file(), cpu.epc.frame(encl.secs_address)
        memory = ScratchMemory()
        page, pcmd = memory.place(bytes(PAGE_SIZE), PAGE_SIZE), memory.place(bytes(Pcmd.size_of), 128)
        info = memory.place(Pageinfo.of(srcpge=page, secinfo=pcmd).buffer, Pageinfo.size_of)
        backing.pin(np.array([backing.secs]))
        number = self.slots.take(1)
        try:
            result = ewb.ewb(cpu, memory, info, encl.secs_address, self._slot_address(number))
        except Fault:  # somebody uses it; it goes another time
            self.slots.give(number)
            return
        invariant(result.ok, "EWB: a SECS without children goes", result=str(result))
        written = np.frombuffer(memory.read(pcmd, Pcmd.size_of), np.uint8).reshape(1, -1)
        row = np.frombuffer(memory.read(page, PAGE_SIZE) + bytes(MAC_SIZE), np.uint8).reshape(1, -1)
        at = np.array([backing.secs])
        backing.store(at, row, written)
        self._slot[at] = number + 1
        encl.secs = None
        cpu.epc.free(frame)
        encl.driver.count("ewb", 1)

    def _slot_address(self, number: Indexes) -> EpcAddr:
        return EpcAddr(int(self.slots.addresses(number)[0]))

    # Back.

    def load(self, indexes: Indexes) -> Outcome:
        """Bring pages back that are out, and the SECS; others are left alone.

        Args:
            indexes: ascending; a page was added at each.

        Returns:
            0: all are in the EPC. -EAGAIN: one is being written out, or no EPC page is free now: try again without
            any lock. -ENOMEM: no EPC page is free, and none will be. -EFAULT: the enclave is broken.
        """
        encl = self.encl
        if self.broken is not None:
            return Outcome(-errno.EFAULT, self.broken)
        if encl.secs is not None and self.blocked(indexes).any():
            return self._refuse(
                errno.EAGAIN, "the page is not being written out", "BLOCKED = 0", "BLOCKED = 1"
            )
        missing = indexes[self._slot[indexes] != 0]
        outcome = self._load_secs() if encl.secs is None else OK
        if not outcome.ok or not len(missing):
            return outcome
        moves, free = encl.driver.reclaimer.moves, encl.driver.cpu.epc.free_count
        if free < len(missing):
            return self._no_page(moves)
        last = int(missing[-1])
        missing = self._with_followers(missing, free - len(missing) - encl.driver.reclaimer.low)
        for at in range(0, len(missing), BLOCK):
            outcome = self._read(missing[at : at + BLOCK], last)
            if not outcome.ok:
                break
        return outcome

    def _no_page(self, moves: int) -> Outcome:
        driver = self.encl.driver
        if not driver.reclaimer.hopeless(moves):
            return self._refuse(errno.EAGAIN, "an EPC page is free", "a free page", "none at present")
        return driver.no_page()

    def ahead(self, first: int) -> int:
        """How many pages would be loaded with this one if there is EPC for them."""
        return self._ahead if first == self._next else 0

    def _with_followers(self, missing: Indexes, spare: int) -> Indexes:
        """The pages, and some evicted ones behind the last, if the first is where the load before ended."""
        first, last = int(missing[0]), int(missing[-1]) + 1
        if first != self._next:
            self._ahead = 0
        count = max(0, min(self._ahead, spare, len(self._slot) - 1 - last))
        behind = self._slot[last : last + count] != 0
        count = len(behind) if behind.all() else int(np.argmin(behind))
        self._ahead = min(max(READ_AHEAD[0], 2 * self._ahead), READ_AHEAD[1])
        self._next = last + count
        return np.concatenate((missing, np.arange(last, last + count)))

    def _read(self, indexes: Indexes, last: int) -> Outcome:
        """ELDU of one block; what happens to pages behind ``last`` is nobody's business."""
        with self.encl.driver.reclaimer.bringing():
            return self._bring(indexes, last)

    def _bring(self, indexes: Indexes, last: int) -> Outcome:
        encl, cpu, backing = self.encl, self.encl.driver.cpu, self._file()
        moves, frames = encl.driver.reclaimer.moves, cpu.epc.allocate_up_to(len(indexes))
        if len(frames) < len(indexes):
            cpu.epc.unread(frames)
            return self._no_page(moves)
        numbers = self._slot[indexes].astype(np.int64) - 1
        slots = self.slots.addresses(numbers)
        addresses = (encl.base + indexes * PAGE_SIZE).astype(np.uint64)
        before = self._state.children
        with cpu.scratch.table(len(indexes), ROW_SIZE) as sealed:
            pcmds = backing.fetch(indexes, sealed)
            try:
                _, result = eldu.run(cpu, encl.secs_address, frames, slots, addresses, sealed, pcmds)
                cause = result.reason
            except Fault as fault:
                cause = fault.reason
        done = self._state.children - before
        self._came(indexes[:done], numbers[:done])
        cpu.epc.unread(frames[done:])
        if done < len(indexes) and indexes[done] <= last:
            return self._break(f"page {indexes[done]}", cause)
        return OK

    def _came(self, indexes: Indexes, numbers: Indexes) -> None:
        """Pages are in the EPC again."""
        driver = self.encl.driver
        self._slot[indexes] = 0
        self.usable[indexes] = 0
        self.slots.give(numbers)
        self.evicted -= len(indexes)
        self._file().free(indexes)
        if not driver.demand:
            self._loaded.append(indexes)
        driver.count("eldu", len(indexes))
        driver.reclaimer.enlist(self.encl, indexes)

    def _load_secs(self) -> Outcome:
        encl, cpu, backing = self.encl, self.encl.driver.cpu, self._file()
        moves, frame = encl.driver.reclaimer.moves, cpu.epc.allocate()
        if frame is None:
            return self._no_page(moves)
        memory = ScratchMemory()
        at = backing.secs
        number = self._slot[[at]].astype(np.int64) - 1
        info = Pageinfo.of(
            srcpge=memory.place(backing.page(at), PAGE_SIZE),
            secinfo=memory.place(backing.pcmd(at).buffer, Pcmd.size_of),
        )
        pageinfo = memory.place(info.buffer, Pageinfo.size_of)
        try:
            result = eldu.eldu(cpu, memory, pageinfo, cpu.epc.address(frame), self._slot_address(number))
            cause = result.reason
        except Fault as fault:
            result, cause = LeafResult(int(SgxError.MAC_COMPARE_FAIL)), fault.reason
        if not result.ok:
            cpu.epc.unread(np.array([frame], np.uint32))
            return self._break("the SECS", cause)
        encl.secs = frame
        self._slot[at] = 0
        self.slots.give(number)
        backing.free(np.array([at]))
        encl.driver.count("eldu", 1)
        return OK

    def _break(self, what: str, cause: Reason | None) -> Outcome:
        """What came back is not what was written: the enclave ends, for everybody who touches it."""
        told = self._refuse(
            errno.EFAULT, "ELDU succeeds", "the page that EWB wrote", f"another ({what})", cause=cause
        )
        self.broken = told.reason
        return told

    def _refuse(
        self, number: int, rule: str, expected: object, found: object, cause: Reason | None = None
    ) -> Outcome:
        return refuse(
            number,
            operation="page fault",
            rule=rule,
            expected=expected,
            found=found,
            source=self.encl.profile.source("encl.c: __sgx_encl_load_page"),
            cause=cause,
        )

    def take_loaded(self) -> list[tuple[int, int]]:
        """Runs of pages that came back and that address spaces were not told of yet: (first, count)."""
        loaded, self._loaded = self._loaded, []
        if len(loaded) > 1:
            return consecutive(np.unique(np.concatenate(loaded)))
        return consecutive(loaded[0]) if loaded else []

    @property
    def threads_inside(self) -> int:
        """How many threads are inside the enclave."""
        encl = self.encl
        return encl.driver.cpu.threads_inside(encl.secs) if encl.secs is not None else 0

    @property
    def epoch(self) -> int:
        """The enclave's tracking epoch; 0 when it has ended."""
        return self._state.epoch if self.encl.created else 0

    def all_left(self, epoch: int) -> None:
        """Whoever was inside when ``epoch`` began has left once."""
        if self.encl.created and self._state.epoch == epoch:
            self.encl.driver.cpu.tracker.interrupt(self._state)

    def close(self) -> None:
        """The enclave ends."""
        if self.backing is not None:
            self.backing.close()
            self.backing = None
        self._slot = np.empty(0, np.int32)
        self.evicted = 0
