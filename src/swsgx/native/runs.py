"""Which pages of an enclave are really mapped in a process, as runs: what hiding moves (:class:`VisibleRun`)."""

from __future__ import annotations

from swsgx.native.abi import VisibleRun

__all__ = ["Runs"]

_PROT_EXEC = 4
_PROT_WRITE = 2


class Runs:
    """Runs of pages with one protection, ascending and disjoint.

    Attributes:
        runs: ``(start, end, protection)`` of each.
    """

    def __init__(self) -> None:
        self.runs: list[tuple[int, int, int]] = []

    @staticmethod
    def private(prot: int) -> bool:
        """Whether pages with this protection are private copies: executable and not writable."""
        return bool(prot & _PROT_EXEC) and not prot & _PROT_WRITE

    def keeps_kind(self, start: int, end: int, prot: int) -> bool:
        """Whether the range is one run now, and of the same kind under a new protection: then mprotect(2) will do.

        It matters, since mprotect keeps page-table entries, and a fault tells whether there is one.
        """
        return any(
            low <= start and end <= high and self.private(old) == self.private(prot)
            for low, high, old in self.runs
        )

    def replace(self, start: int, end: int, prot: int) -> None:
        """The range is mapped with ``prot`` now; 0: it is not."""
        kept: list[tuple[int, int, int]] = []
        for low, high, old in self.runs:
            if low < start:
                kept.append((low, min(high, start), old))
            if high > end:
                kept.append((max(low, end), high, old))
        if prot:
            kept.append((start, end, prot))
        self.runs = sorted(kept)

    def copy(self) -> Runs:
        """The same runs, to be changed apart."""
        other = Runs()
        other.runs = list(self.runs)
        return other

    def table(self) -> tuple[bytes, int]:
        """The monitor's table of them, and how many entries it has."""
        entries = [
            VisibleRun.of(address=low, length=high - low, prot=prot, private=self.private(prot)).buffer
            for low, high, prot in self.runs
        ]
        return b"".join(entries), len(entries)
