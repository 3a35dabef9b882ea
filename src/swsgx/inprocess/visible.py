"""Which pages of an enclave are really mapped in this process, as runs: what hiding moves."""

from __future__ import annotations

from swsgx.native.abi import EnclaveSlot, VisibleRun
from swsgx.native.images import address_of
from swsgx.native.shm import PrivateRegion

__all__ = ["VisibleRuns"]

#: Runs of one enclave; the host's own limit for all mappings of a process is 65,530 by default.
_CAPACITY = 65536
_PROT_EXEC = 4
_PROT_WRITE = 2


class VisibleRuns:
    """The mapped runs of one enclave, ascending and disjoint, kept equal to the monitor's table.

    Args:
        slot: whose ``runs`` and ``run_count`` are maintained. The range must be pinned while runs change.
    """

    def __init__(self, slot: EnclaveSlot) -> None:
        self._slot = slot
        self._region = PrivateRegion(_CAPACITY * VisibleRun.size_of)
        self._runs: list[tuple[int, int, int]] = []
        slot.runs = address_of(self._region.view)

    @staticmethod
    def private(prot: int) -> bool:
        """Whether pages with this protection are private copies: executable and not writable."""
        return bool(prot & _PROT_EXEC) and not prot & _PROT_WRITE

    def replace(self, start: int, end: int, prot: int) -> None:
        """The range is mapped with ``prot`` now; 0: it is not.

        Raises:
            OSError: too many runs.
        """
        kept: list[tuple[int, int, int]] = []
        for low, high, old in self._runs:
            if low < start:
                kept.append((low, min(high, start), old))
            if high > end:
                kept.append((max(low, end), high, old))
        if prot:
            kept.append((start, end, prot))
        merged = sorted(kept)
        if len(merged) > _CAPACITY:
            raise OSError(f"an enclave can have {_CAPACITY} mapped runs at most")
        self._runs = merged
        for index, (low, high, old) in enumerate(merged):
            at = index * VisibleRun.size_of
            run = VisibleRun(self._region.view[at : at + VisibleRun.size_of])
            run.address, run.length, run.prot, run.private = low, high - low, old, self.private(old)
        self._slot.run_count = len(merged)

    def close(self) -> None:
        """Give the table back."""
        self._slot.run_count = 0
        self._region.close()
