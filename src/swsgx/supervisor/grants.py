"""Pages granted to processes whose enclaves grow page after page, so that they need not ask for each.

A question costs some hundred microseconds; a page that a thread accepts by itself, a few (native/supervised/grant.c
does it). What was accepted is not in the machine's tables before :meth:`Grants.settle`, which comes before anything
else that could tell: before each answer, before the end of a process, before figures are told.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass

from swsgx.isa.address import PAGE_SIZE
from swsgx.linux.encl import Encl, EnclaveMapping
from swsgx.linux.fresh import Reserved, reserve
from swsgx.supervisor.process import TargetProcess

__all__ = ["Grants"]

#: Pages that must have been accepted in a row before the first grant; pages of the first, and of the largest.
_IN_A_ROW, _FIRST, _LARGEST = 3, 16, 256
#: Seconds within which a thread that is accepting a page has done so, unless it was stopped.
_PATIENCE = 0.02


@dataclass
class _Streak:
    """Pages that were accepted in a row: the next one, how many there were, and the size of the next grant."""

    next: int
    length: int = 1
    size: int = _FIRST


class Grants:
    """The grants of a machine."""

    def __init__(self) -> None:
        self._streaks: weakref.WeakKeyDictionary[EnclaveMapping, _Streak] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._given: list[tuple[Reserved, TargetProcess]] = []
        self._back: list[tuple[Reserved, TargetProcess, int]] = []

    def accepted(self, mapping: EnclaveMapping, index: int) -> None:
        """A page was accepted in answer to a question."""
        streak = self._streaks.get(mapping)
        if streak is not None and streak.next == index:
            streak.next, streak.length = index + 1, streak.length + 1
        else:
            self._streaks[mapping] = _Streak(index + 1)

    def offer(self, process: TargetProcess, encl: Encl, index: int) -> bool:
        """Grant this page and some behind it, if that is worth it; the thread is to try again then.

        :meth:`settle` was called before.
        """
        mapping = process.mm.mappings.get(encl)
        streak = self._streaks.get(mapping) if mapping is not None else None
        if mapping is None or streak is None or streak.next != index or streak.length < _IN_A_ROW:
            return False
        # A copy of the process would have the pages as they are by chance, and not know it.
        if process.forks or mapping.grant.busy or not process.engine.can_grant(encl):
            return False
        reserved = reserve(encl, mapping, index, streak.size)
        if reserved is None:
            return False
        streak.size = min(2 * streak.size, _LARGEST)
        grant = mapping.grant
        grant.next, grant.end = index, index + len(reserved)
        with self._lock:
            grant.serial = (grant.serial + 1) & 0xFFFF_FFFF
            self._given.append((reserved, process))
        start = encl.base + index * PAGE_SIZE
        process.engine.grant(encl, start, len(reserved) * PAGE_SIZE, grant.serial)
        return True

    def recall(self) -> bool:
        """Take all grants back; whether EPC pages came back with them. Any lock may be held."""
        if not self._given:
            return False
        with self._lock:
            given, self._given = self._given, []
            freed = False
            for reserved, process in given:
                before = len(reserved)
                freed |= reserved.shrink(self._taken_back(reserved))
                self._back.append((reserved, process, before))
        return freed

    @staticmethod
    def _taken_back(reserved: Reserved) -> int:
        """How many pages of a grant were accepted; no more will be."""
        grant = reserved.mapping.grant
        # Taking and releasing a lock orders this store before the look at "busy".
        grant.serial = (grant.serial + 1) & 0xFFFF_FFFF
        with threading.Lock():
            until = time.monotonic() + _PATIENCE
        while grant.busy and time.monotonic() < until:
            time.sleep(0)
        # A thread that was stopped in the middle goes on some time: then its page is accepted.
        return min(grant.next - reserved.first + (1 if grant.busy else 0), len(reserved))

    def settle(self) -> None:
        """What was accepted is in the machine's tables, and nothing is granted any more. Call it without any lock."""
        if not self._given and not self._back:
            return
        self.recall()
        with self._lock:
            back, self._back = self._back, []
        for reserved, process, granted in back:
            encl, mapping, accepted = reserved.encl, reserved.mapping, len(reserved)
            reserved.accepted()
            if accepted < granted:
                start = encl.base + (reserved.first + accepted) * PAGE_SIZE
                process.engine.ungrant(encl, start, (granted - accepted) * PAGE_SIZE)
            streak = self._streaks.get(mapping)
            if streak is None:
                continue
            if accepted:
                streak.next = reserved.first + accepted
            else:
                del self._streaks[mapping]
