"""Which pages of an enclave are really mapped in this process: the runs, kept in the monitor's table."""

from __future__ import annotations

from collections.abc import Iterator

from swsgx.native.abi import EnclaveSlot, VisibleRun
from swsgx.native.images import address_of
from swsgx.native.runs import Runs
from swsgx.native.shm import PrivateRegion

__all__ = ["VisibleRuns"]

#: Runs of one enclave; the host's own limit for all mappings of a process is 65,530 by default.
_CAPACITY = 65536


class VisibleRuns:
    """The mapped runs of one enclave, kept equal to the monitor's table.

    Args:
        slot: whose ``runs`` and ``run_count`` are maintained. The range must be pinned while runs change.
    """

    def __init__(self, slot: EnclaveSlot) -> None:
        self._slot = slot
        self._region = PrivateRegion(_CAPACITY * VisibleRun.size_of)
        self._runs = Runs()
        slot.runs = address_of(self._region.view)

    def keeps_kind(self, start: int, end: int, prot: int) -> bool:
        """Whether mprotect(2) can change the range: :meth:`swsgx.native.runs.Runs.keeps_kind`."""
        return self._runs.keeps_kind(start, end, prot)

    def private_parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Private copies in the range: :meth:`swsgx.native.runs.Runs.private_parts`."""
        return self._runs.private_parts(start, end)

    def replace(self, start: int, end: int, prot: int) -> None:
        """The range is mapped with ``prot`` now; 0: it is not.

        Raises:
            OSError: too many runs.
        """
        self._runs.replace(start, end, prot)
        table, count = self._runs.table()
        if count > _CAPACITY:
            raise OSError(f"an enclave can have {_CAPACITY} mapped runs at most")
        self._region.view[: len(table)] = table
        self._slot.run_count = count

    def close(self) -> None:
        """Give the table back."""
        self._slot.run_count = 0
        self._region.close()
