"""Where the contents of one enclave's pages are, and the table that native code looks at.

Contents live at ENCLAVEADDRESS - BASEADDR in a sparse memfd as large as ELRANGE, so that whoever maps an
enclave maps consecutive offsets. The second region holds :class:`~swsgx.native.abi.EnclaveHead` and the
frame map: for each page of ELRANGE the EPC frame number plus one, or 0.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.structs import Secs
from swsgx.native.abi import FRAME_MAP_OFFSET, EnclaveHead
from swsgx.native.shm import SharedRegion

__all__ = ["EnclaveStore", "all_differ", "consecutive"]


def all_differ(numbers: npt.NDArray[Any]) -> bool:
    """Whether no number is there twice; quickest if there is one, or if they ascend."""
    if len(numbers) < 2 or bool((numbers[1:] > numbers[:-1]).all()):
        return True
    return len(np.unique(numbers)) == len(numbers)


def consecutive(indexes: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """Runs of numbers that follow each other, as (first, count), in the order given."""
    if not len(indexes):
        return []
    if len(indexes) == 1:
        return [(int(indexes[0]), 1)]
    # Differences wrap around in unsigned numbers, and are not 1 then either.
    cuts = (np.flatnonzero(indexes[1:] - indexes[:-1] != 1) + 1).tolist()
    if not cuts:  # as nearly always
        return [(int(indexes[0]), len(indexes))]
    starts, ends = [0, *cuts], [*cuts, len(indexes)]
    return [(int(indexes[start]), end - start) for start, end in zip(starts, ends, strict=True)]


class EnclaveStore:
    """One enclave's contents and table.

    Args:
        secs: the SECS, whose BASEADDR, SIZE and so on go into the head.
        frame: the SECS's EPC frame.
        eid: the enclave's unique number.
        xsize: bytes of the XSAVE area for the enclave's XFRM.

    Attributes:
        contents: bytes of ELRANGE, sparse.
        table: head and frame map.
        shared: others may be writing to pages while those are written out, and wait for pages that are not there: so
            every page in the EPC has memory, and none that is not.
        head: what EENTER must know, a view of :attr:`table`.
        frame_map: EPC frame number plus one by page index, a view of :attr:`table`.

    Raises:
        OSError: ELRANGE is larger than this process can map.
    """

    def __init__(self, secs: Secs, frame: int, eid: int, xsize: int) -> None:
        pages = secs.size // PAGE_SIZE
        self.shared = False
        self.contents = SharedRegion(f"sgx-enclave-{eid}", secs.size)
        try:
            self.table = SharedRegion(f"sgx-table-{eid}", FRAME_MAP_OFFSET + 4 * pages)
        except OSError:
            self.contents.close()
            raise
        self.head = EnclaveHead(self.table.view[:FRAME_MAP_OFFSET])
        self.head.baseaddr = secs.baseaddr
        self.head.size = secs.size
        self.head.attributes = secs.attributes
        self.head.xfrm = secs.xfrm
        self.head.ssaframesize = secs.ssaframesize
        self.head.miscselect = secs.miscselect
        self.head.xsize = xsize
        self.head.secs_frame = frame
        self.head.eid = eid
        self.head.generation = 1  # 0 means "never checked" to the monitor
        self.frame_map: npt.NDArray[np.uint32] = np.frombuffer(
            self.table.view, dtype=np.uint32, count=pages, offset=FRAME_MAP_OFFSET
        )
        self._generation: npt.NDArray[np.uint64] = np.frombuffer(
            self.table.view, dtype=np.uint64, count=1, offset=EnclaveHead.generation.offset
        )

    def page(self, offset: int) -> memoryview:
        """The 4096 bytes at ``offset`` (page aligned) of ELRANGE."""
        return self.contents.view[offset : offset + PAGE_SIZE]

    def fill(self, offset: int, data: memoryview) -> None:
        """Store whole pages that are not there yet; by pwrite(2), since each would be a page fault here."""
        while data:
            written = os.pwrite(self.contents.fd, data, offset)
            offset, data = offset + written, data[written:]

    def clear(self, offset: int, size: int) -> None:
        """Zero pages come into the EPC."""
        self.contents.punch(offset, size)
        if self.shared:
            self.contents.populate(offset, size)

    def leaving(self, offsets: npt.NDArray[np.uint64], room: npt.NDArray[np.uint8]) -> list[memoryview]:
        """Contents of pages, each, that leave the EPC now; their memory may be gone behind this.

        Args:
            offsets: of the pages.
            room: 4096 bytes for each, contiguous, where contents may be put.
        """
        if not self.shared:
            view = self.contents.view
            return [view[at : at + PAGE_SIZE] for at in offsets.tolist()]
        taken, at = room.reshape(-1).data, 0
        for first, count in consecutive(offsets // np.uint64(PAGE_SIZE)):
            self.contents.take(first * PAGE_SIZE, taken[at : at + count * PAGE_SIZE])
            at += count * PAGE_SIZE
        return [taken[at : at + PAGE_SIZE] for at in range(0, at, PAGE_SIZE)]

    def changed(self) -> None:
        """Tell whoever caches checks that something changed: an EPCM entry, a mapping or a TCS."""
        self._generation[0] += np.uint64(1)

    def forget(self, offset: int, size: int) -> None:
        """The pages of ``size`` bytes at ``offset`` left the EPC: drop their contents and map entries."""
        first = offset // PAGE_SIZE
        self.frame_map[first : first + size // PAGE_SIZE] = 0
        self.contents.punch(offset, size)

    def forget_pages(self, offsets: npt.NDArray[np.uint64]) -> None:
        """The same for pages anywhere, by their offsets: consecutive ones go together."""
        indexes = offsets // np.uint64(PAGE_SIZE)
        self.frame_map[indexes] = 0
        for first, count in consecutive(indexes):
            self.contents.punch(first * PAGE_SIZE, count * PAGE_SIZE)

    def close(self) -> None:
        """Give the memory back; other processes' mappings of it stay theirs."""
        del self.frame_map, self._generation, self.head
        self.contents.close()
        self.table.close()
