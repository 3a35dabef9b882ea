"""Where evicted pages are: one sparse file for each enclave, and the version slots that go with them.

The file is laid out as Linux's (encl.c, sgx_encl_get_backing): contents at index * 4096, the SECS behind the last
page, then PCMD, 128 bytes each. It holds nothing secret and nothing that is trusted; EWB and ELDU see to that.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from swsgx.cpu.encls.evicted import SLOT_SIZE
from swsgx.cpu.faults import invariant
from swsgx.cpu.store import consecutive
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.structs import Pcmd
from swsgx.native.shm import SharedRegion

__all__ = ["VA_SLOTS", "Backing", "VersionSlots"]

#: Pages whose versions one VA page holds.
VA_SLOTS = 512
#: Buffers that one call of the host takes.
_VECTORS = 1024
#: Pages that may stay in a file though they were loaded: giving them back one by one costs more than the page.
_SLACK = 1024

Bytes = npt.NDArray[np.uint8]
Indexes = npt.NDArray[np.int64]


class Backing:
    """The file of one enclave.

    Args:
        number: the enclave's, for people.
        pages: of ELRANGE.

    Attributes:
        secs: index of the SECS.
        region: the file, mapped.

    Raises:
        OSError: no memory, or no file descriptor left.
    """

    def __init__(self, number: int, pages: int) -> None:
        self.secs = pages
        count = pages + 1
        self.region = SharedRegion(f"sgx-backing-{number}", count * (PAGE_SIZE + Pcmd.size_of))
        self._pcmds: Bytes = np.frombuffer(
            self.region.view, np.uint8, count * Pcmd.size_of, count * PAGE_SIZE
        ).reshape(count, Pcmd.size_of)
        self._stale = np.zeros(count, np.bool_)
        self._stale_count = 0

    def page(self, index: int) -> memoryview:
        """The encrypted page."""
        return self.region.view[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]

    def pcmd(self, index: int) -> Pcmd:
        """The page's PCMD, as a view."""
        at = (self.secs + 1) * PAGE_SIZE + index * Pcmd.size_of
        return Pcmd(self.region.view[at : at + Pcmd.size_of])

    def pin(self, indexes: Indexes) -> None:
        """Have memory for pages before they are written out, when it would be too late.

        Raises:
            OSError: the host has none.
        """
        pcmds = (self.secs + 1) * PAGE_SIZE
        for first, count in consecutive(indexes):
            os.posix_fallocate(self.region.fd, first * PAGE_SIZE, count * PAGE_SIZE)
            os.posix_fallocate(self.region.fd, pcmds + first * Pcmd.size_of, count * Pcmd.size_of)

    def store(self, indexes: Indexes, sealed: Bytes, pcmds: Bytes) -> None:
        """Keep rows as EWB made them; they are pinned."""
        at = 0
        for first, count in consecutive(indexes):
            _move(os.pwritev, self.region.fd, _pages(sealed[at : at + count]), first * PAGE_SIZE)
            at += count
        self._pcmds[indexes] = pcmds
        self._fresh(indexes)

    def fetch(self, indexes: Indexes, sealed: Bytes) -> Bytes:
        """The PCMDs of pages; ``sealed`` gets rows as ELDU wants them."""
        at = 0
        for first, count in consecutive(indexes):
            _move(os.preadv, self.region.fd, _pages(sealed[at : at + count]), first * PAGE_SIZE)
            at += count
        return self._pcmds[indexes]

    def free(self, indexes: Indexes) -> None:
        """The pages were loaded. Their memory goes back to the host, not at once, but soon."""
        self._stale_count += len(indexes) - int(self._stale[indexes].sum())
        self._stale[indexes] = True
        if self._stale_count > _SLACK:
            self.trim()

    def trim(self) -> None:
        """Give all memory back that holds no evicted page."""
        for first, count in consecutive(np.flatnonzero(self._stale)):
            self.region.punch(first * PAGE_SIZE, count * PAGE_SIZE)
        self._stale[:] = False
        self._stale_count = 0

    def _fresh(self, indexes: Indexes) -> None:
        if self._stale_count:
            self._stale_count -= int(self._stale[indexes].sum())
            self._stale[indexes] = False

    def close(self) -> None:
        """Give the memory back."""
        self._pcmds = np.empty((0, Pcmd.size_of), np.uint8)
        self.region.close()


def _pages(sealed: Bytes) -> list[memoryview]:
    """The encrypted pages of rows, without the MACs."""
    flat, width = sealed.reshape(-1).data, sealed.shape[1]
    return [flat[at : at + PAGE_SIZE] for at in range(0, len(flat), width)]


def _move(call: Any, fd: int, buffers: list[memoryview], offset: int) -> None:
    """Preadv or pwritev of all buffers."""
    while buffers:
        part = buffers[:_VECTORS]
        moved = call(fd, part, offset)
        invariant(moved % PAGE_SIZE == 0 and moved > 0, "backing: whole pages are moved", moved=moved)
        offset += moved
        buffers = buffers[moved // PAGE_SIZE :]


class VersionSlots:
    """The version slots of one enclave, by number: those of its first VA page, then the next.

    Args:
        epc_base: address of EPC frame 0.
        va_pages: frames of the enclave's VA pages; the owner adds to it, and takes away from its end.
    """

    def __init__(self, epc_base: int, va_pages: list[int]) -> None:
        self._base = epc_base
        self._va_pages = va_pages
        self._free: Indexes = np.empty(0, np.int64)
        self._known = 0

    def _look(self) -> None:
        """Notice VA pages that came or went."""
        now = VA_SLOTS * len(self._va_pages)
        if now > self._known:
            self._free = np.concatenate((self._free, np.arange(self._known, now)))
        elif now < self._known:
            self._free = self._free[self._free < now]
        self._known = now

    @property
    def used(self) -> int:
        """How many hold a version."""
        self._look()
        return self._known - len(self._free)

    def take(self, count: int) -> Indexes:
        """Numbers of ``count`` empty slots; there must be as many."""
        self._look()
        left = len(self._free) - count
        invariant(left >= 0, "VA pages: a slot for each page of the enclave", wanted=count, missing=-left)
        taken, self._free = self._free[left:], self._free[:left]
        return taken

    def give(self, numbers: Indexes) -> None:
        """Slots are empty again."""
        self._free = np.concatenate((self._free, numbers))

    def addresses(self, numbers: Indexes) -> npt.NDArray[np.uint64]:
        """Their EPC addresses."""
        frames = np.array(self._va_pages, np.int64)[numbers // VA_SLOTS]
        found = self._base + frames * PAGE_SIZE + numbers % VA_SLOTS * SLOT_SIZE
        return found.astype(np.uint64)
