"""The reclaimer: which pages leave the EPC, and when. Read from main.c of Linux 6.1 and 6.12 (same).

All enclaves of a machine share the EPC and one list of pages, oldest first: REG and TCS pages enter at its end when
they are added or loaded. SECS and VA pages are never on it. Whether a page was used lately, the address spaces'
engines say (:meth:`swsgx.linux.engine.Engine.accessed`).

Linux takes 16 pages at a time. Here it may be more where more are wanted: no program can tell, and EWB of many costs
less for each. Linux's watermarks are for an EPC of megabytes; of a tiny one they are an eighth and a quarter.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from swsgx.cpu.store import consecutive
from swsgx.linux.backing import Indexes
from swsgx.linux.outcome import ERESTARTSYS, Outcome, refuse

if TYPE_CHECKING:
    from swsgx.linux.device import Driver
    from swsgx.linux.encl import Encl

__all__ = ["BATCH", "HIGH", "LOW", "EnclaveFigures", "EpcFull", "Figures", "Reclaimer"]

#: Free pages below which the background thread works, and up to how many.
LOW, HIGH = 32, 64
#: Pages that are looked at in one go.
BATCH = 16
#: The same, when many are wanted.
_BULK = 256
#: How often EWB is tried with everybody made to leave before.
_ROUNDS = 3
#: Seconds after which a thread that waits for other ones' pages looks again, and how often it does.
_LOOK_AGAIN, _PATIENCE = 0.01, 500


class EpcFull(Exception):
    """No EPC page is free, but one can be made so: let go of all locks, call ``make_room``, and try again.

    Attributes:
        need: how many pages must be free.
    """

    def __init__(self, need: int = 1) -> None:
        super().__init__(f"{need} EPC pages are needed")
        self.need = need


@dataclass(frozen=True, slots=True)
class EnclaveFigures:
    """One enclave.

    Attributes:
        number: as in traces.
        base, size: ELRANGE, bytes.
        initialised, debug: INIT accepted it; its DEBUG attribute.
        resident: pages in the EPC, SECS and VA pages not among them.
        evicted: pages in the backing file, the SECS not among them.
        augmented: pages that EAUG has added so far, those that were removed since among them.
        tcs: pages that are a TCS.
        va_pages: version arrays.
        secs_resident: the SECS is in the EPC.
    """

    number: int
    base: int
    size: int
    initialised: bool
    debug: bool
    resident: int
    evicted: int
    augmented: int
    tcs: int
    va_pages: int
    secs_resident: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """How full the EPC is, and what paging did since the driver was loaded.

    Attributes:
        epc_total, epc_free: pages.
        reclaimable: pages on the list.
        ewb, eldu: pages written out and loaded, SECS among them.
        eaug: pages added to initialised enclaves.
        faults: times that somebody asked for pages that were out.
        enclaves: those with a SECS.
    """

    epc_total: int
    epc_free: int
    reclaimable: int
    ewb: int
    eldu: int
    eaug: int
    faults: int
    enclaves: tuple[EnclaveFigures, ...]


class Reclaimer:
    """The list of reclaimable pages, and what is done with it. Callers hold no lock but where it is said.

    Args:
        driver: whose EPC.
        backing_pages: how many evicted pages there may be, of all enclaves.

    Attributes:
        low, high: watermarks.
        batch: pages that are looked at in one go.
    """

    def __init__(self, driver: Driver, backing_pages: int) -> None:
        self._driver = driver
        frames = driver.cpu.epc.frames
        self.low, self.high = min(LOW, frames // 8), min(HIGH, frames // 4)
        self.batch = max(1, min(BATCH, frames // 8))
        self.backing_pages = backing_pages
        self._lock = threading.Lock()
        # Pages that a thread has taken off the list and not decided about yet, threads that have EPC pages which will
        # be on it, and who waits for either.
        self._deciding = 0
        self._bringing: list[int] = []
        self._news = threading.Condition(self._lock)
        self._moves = 0
        self._queue: deque[tuple[Encl, Indexes]] = deque()
        self._length = 0
        # Pages that were blocked and could not be written out: somebody would not leave.
        self._stuck: list[tuple[Encl, Indexes]] = []

    def __len__(self) -> int:
        return self._length

    @property
    def moves(self) -> int:
        """Grows when pages move between free and used; for :meth:`hopeless`."""
        return self._moves

    def hopeless(self, moves: int) -> bool:
        """Whether no EPC page can be made free.

        None is on the list, with room for it outside, none is on its way out or onto the list, and none was since
        ``moves``, behind which the caller found too few that are free.
        """
        if self._driver.recall():
            return False
        with self._lock:
            return self._moves == moves and not self._waiting and not self._moving

    @property
    def reclaimable(self) -> bool:
        """Whether any page is on the list, with room for it outside, or on its way out."""
        with self._lock:
            return self._waiting or self._moving

    @property
    def _waiting(self) -> bool:
        return bool(self._stuck) or (bool(self._length) and self._room > 0)

    @property
    def _moving(self) -> bool:
        """Whether other threads are about to put pages on the list, or to free them."""
        me = threading.get_ident()
        return bool(self._deciding) or any(thread != me for thread in self._bringing.copy())

    @contextlib.contextmanager
    def bringing(self) -> Iterator[None]:
        """While free EPC pages come to the list, or pages become free that are not on it. Any lock may be held."""
        me = threading.get_ident()
        with self._lock:
            self._moves += 1
            self._bringing.append(me)
        try:
            yield
        finally:
            with self._lock:
                self._bringing.remove(me)
                self._moved()

    def _moved(self) -> None:
        self._moves += 1
        self._news.notify_all()

    @property
    def _room(self) -> int:
        """How many more pages may be evicted."""
        return self.backing_pages - sum(encl.paging.evicted for encl in self._driver.enclaves)

    def enlist(self, encl: Encl, indexes: Indexes) -> None:
        """Pages came into the EPC: they are the youngest. Any lock may be held."""
        with self._lock:
            if not len(encl.listed):
                return  # the enclave has ended
            if len(indexes) == 1:  # as for each page that an enclave accepts
                index = int(indexes[0])
                self._length += not encl.listed[index]
                encl.listed[index] = 1
                if not encl.queued[index]:
                    encl.queued[index] = 1
                    self._queue.append((encl, indexes))
                return
            self._length += len(indexes) - int(encl.listed[indexes].sum())
            encl.listed[indexes] = 1
            # What was taken off the list has an entry yet, and its old place.
            fresh = indexes[encl.queued[indexes] == 0]
            if len(fresh):
                encl.queued[fresh] = 1
                self._queue.append((encl, fresh))

    def unlist(self, encl: Encl, first: int, count: int) -> int:
        """sgx_unmark_page_reclaimable of pages in a row: they stay in the EPC until :meth:`enlist`.

        Any lock may be held.

        Returns:
            For how many that holds, up to the first that is not on the list: it is on its way out.
        """
        with self._lock:
            part = encl.listed[first : first + count]
            count = len(part) if part.all() else int(np.argmin(part))
            part[:count] = 0
            self._length -= count
            return count

    def forget(self, encl: Encl) -> None:
        """The enclave ends. Any lock may be held."""
        with self._lock:
            self._queue = deque(item for item in self._queue if item[0] is not encl)
            self._length -= int(encl.listed.sum())
            encl.listed = encl.queued = encl.listed[:0]
            self._stuck = [item for item in self._stuck if item[0] is not encl]

    def _pop(self, count: int) -> list[tuple[Encl, Indexes]]:
        """Take up to ``count`` pages from the head, those of one enclave together."""
        found: dict[Encl, list[Indexes]] = {}
        with self._lock:
            self._moves += 1
            while count and self._queue:
                encl, indexes = self._queue.popleft()
                encl.queued[indexes] = 0
                indexes = indexes[encl.listed[indexes] != 0]
                if len(indexes) > count:
                    self._queue.appendleft((encl, indexes[count:]))
                    encl.queued[indexes[count:]] = 1
                    indexes = indexes[:count]
                if len(indexes):
                    count -= len(indexes)
                    self._length -= len(indexes)
                    encl.listed[indexes] = 0
                    self._deciding += len(indexes)
                    found.setdefault(encl, []).append(indexes)
        return [(encl, np.sort(np.concatenate(parts))) for encl, parts in found.items()]

    def reclaim(self, count: int) -> int:
        """Look at ``count`` pages from the head of the list, and evict those that were not used lately.

        Returns:
            How many pages were evicted.
        """
        with self._lock:
            stuck, self._stuck = self._stuck, []
            self._deciding += sum(len(indexes) for _, indexes in stuck)
            self._moves += 1
        freed = 0
        for encl, indexes in stuck:
            with self._deciding_about(indexes):
                freed += self._evict(encl, indexes, again=True)
        for encl, indexes in self._pop(max(0, min(count, self._room))):
            with self._deciding_about(indexes):
                freed += self._look(encl, indexes)
        return freed

    @contextlib.contextmanager
    def _deciding_about(self, indexes: Indexes) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._deciding -= len(indexes)
                self._moved()

    def _look(self, encl: Encl, indexes: Indexes) -> int:
        """Pages that were taken off the list go back to it, or out; how many were evicted."""
        with encl.mutex:
            if encl.secs is None:
                return 0  # none of them is in the EPC any more
            if self._driver.shootdown is None and self._driver.cpu.threads_inside(encl.secs):
                self.enlist(encl, indexes)
                return 0
            pinned = encl.pinned(indexes) if self._driver.demand else np.zeros(len(indexes), np.bool_)
        young = pinned | _accessed(encl, indexes)
        self.enlist(encl, indexes[young])
        return self._evict(encl, indexes[~young])

    def _evict(self, encl: Encl, indexes: Indexes, *, again: bool = False) -> int:
        """The three steps; how many pages were written out."""
        driver, paging = self._driver, encl.paging
        if not again:
            with encl.mutex:
                indexes = paging.begin(indexes)
        wanted = len(indexes)
        for round_ in range(_ROUNDS):
            if not len(indexes):
                break
            epoch = paging.epoch
            try:
                if not round_:
                    for first, count in consecutive(indexes):
                        encl.take_away(first, count)
                left = driver.shootdown(encl) if driver.shootdown is not None else False
                with encl.mutex:
                    if left:
                        paging.all_left(epoch)
                    if left or (driver.shootdown is None and not paging.threads_inside):
                        indexes = paging.finish(indexes)
            except OSError:
                break  # the host is out of memory or mappings: nothing can be written out now
            if driver.shootdown is None:
                break
        if len(indexes):
            with self._lock:
                self._stuck.append((encl, indexes))
        return wanted - len(indexes)

    def balance(self) -> None:
        """What the thread ksgxd does when it is woken: reclaim until enough pages are free, or the list is empty."""
        epc = self._driver.cpu.epc
        scanned, limit = 0, 2 * self._length + BATCH
        if self._stuck:
            self.reclaim(0)
        while epc.free_count < self.high and self._waiting and scanned < limit:
            count = max(self.batch, self.high - epc.free_count)
            self.reclaim(count)
            scanned += count

    def make_room(self, need: int, signal_pending: Callable[[], bool], *, wanted: int = 0) -> Outcome | None:
        """Direct reclaim: until ``need`` EPC pages are free.

        Args:
            need: how many the caller cannot do without.
            signal_pending: whether a signal waits for the caller.
            wanted: how many it has a use for.

        Returns:
            None: they are. -ENOMEM: they cannot be. -ERESTARTSYS: a signal came first.
        """
        epc = self._driver.cpu.epc
        scanned, patience = 0, _PATIENCE
        while True:
            moves = self._moves
            if epc.free_count >= need:
                return None
            tired = scanned >= 2 * self._length + BATCH
            if self.hopeless(moves) or not patience or (tired and not self._moving):
                return self._driver.no_page()
            if signal_pending():
                return refuse(
                    ERESTARTSYS,
                    operation="EPC",
                    rule="no signal arrives while pages are reclaimed",
                    expected="none",
                    found="one",
                    source=self._driver.profile.source("main.c: sgx_alloc_epc_page"),
                )
            if tired or not self._waiting:
                with self._lock:  # other threads have what there is
                    if self._moving:
                        self._news.wait(_LOOK_AGAIN)
                patience, scanned = patience - 1, 0
                continue
            count = max(self.batch, min(wanted, _BULK))
            # What was freed, others may have been quicker to take.
            scanned = 0 if self.reclaim(count) else scanned + count


def _accessed(encl: Encl, indexes: Indexes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which pages were used in any address space since it was last asked."""
    young = np.zeros(len(indexes), np.bool_)
    for mapping in list(encl.mappings):
        at = 0
        for first, count in consecutive(indexes):
            young[at : at + count] |= mapping.mm.engine.accessed(mapping, first, count)
            at += count
    return young
