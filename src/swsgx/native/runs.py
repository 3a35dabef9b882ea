"""Which pages of an enclave are really mapped in a process, as runs: what hiding moves (:class:`VisibleRun`)."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator

from swsgx.isa.address import PAGE_SIZE

__all__ = ["Runs"]

_PROT_EXEC = 4
_PROT_WRITE = 2
_ENTRY = struct.Struct("<QQII8x")


class Runs:
    """Runs of pages with one protection, ascending and disjoint.

    Shared runs that touch and have one protection are one run, as they are one mapping to the host; private ones, which
    a patch may have split, stay apart.

    Attributes:
        runs: ``(start, end, protection)`` of each.
    """

    def __init__(self) -> None:
        self.runs: list[tuple[int, int, int]] = []

    @staticmethod
    def private(prot: int) -> bool:
        """Whether pages with this protection are private copies: executable and not writable."""
        return bool(prot & _PROT_EXEC) and not prot & _PROT_WRITE

    def _overlapping(self, start: int, end: int) -> tuple[int, int]:
        """Indexes of the runs that have a byte in the range: the first, and that behind the last."""
        first = bisect.bisect_right(self.runs, start, key=lambda run: run[1])
        last = bisect.bisect_left(self.runs, end, lo=first, key=lambda run: run[0])
        return first, last

    def private_parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What of the range is private copies: start and end of each part, none of which crosses a page."""
        first, last = self._overlapping(start, end)
        for low, high, prot in self.runs[first:last]:
            if not self.private(prot):
                continue
            at, stop = max(low, start), min(high, end)
            while at < stop:
                behind = min((at // PAGE_SIZE + 1) * PAGE_SIZE, stop)
                yield at, behind
                at = behind

    def keeps_kind(self, start: int, end: int, prot: int) -> bool:
        """Whether the range is one run now, and of the same kind under a new protection: then mprotect(2) will do.

        It matters, since mprotect keeps page-table entries, and a fault tells whether there is one.
        """
        first, last = self._overlapping(start, end)
        if last - first != 1:
            return False
        low, high, old = self.runs[first]
        return low <= start and end <= high and self.private(old) == self.private(prot)

    def replace(self, start: int, end: int, prot: int) -> None:
        """The range is mapped with ``prot`` now; 0: it is not."""
        first, last = self._overlapping(start, end)
        kept: list[tuple[int, int, int]] = []
        for low, high, old in self.runs[first:last]:
            if low < start:
                kept.append((low, start, old))
            if high > end:
                kept.append((end, high, old))
        if prot:
            kept.append((start, end, prot))
        kept.sort()
        # The neighbours may be one with what is new.
        before, behind = max(first - 1, 0), min(last + 1, len(self.runs))
        self.runs[before:behind] = self._merged([*self.runs[before:first], *kept, *self.runs[last:behind]])

    def _merged(self, runs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        merged = runs[:1]
        for low, high, prot in runs[1:]:
            start, end, before = merged[-1]
            if end == low and prot == before and not self.private(prot):
                merged[-1] = (start, high, prot)
            else:
                merged.append((low, high, prot))
        return merged

    def copy(self) -> Runs:
        """The same runs, to be changed apart."""
        other = Runs()
        other.runs = list(self.runs)
        return other

    def table(self) -> tuple[bytes, int]:
        """The monitor's table of them, and how many entries it has."""
        entries = [_ENTRY.pack(low, high - low, prot, self.private(prot)) for low, high, prot in self.runs]
        return b"".join(entries), len(entries)
