"""The Enclave Page Cache: which pages exist, which are free, and what those hold that no enclave maps.

A *frame* is a page of the EPC by number. Contents of enclave pages are kept with their enclave
(:mod:`swsgx.cpu.store`); SECS and VA pages, and second pages at one enclave address, live here by frame.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import numpy.typing as npt

from swsgx.cpu.faults import invariant
from swsgx.isa.address import PAGE_SIZE, EpcAddr
from swsgx.isa.cpuid import CpuModel
from swsgx.native.shm import SharedRegion

__all__ = ["Epc", "Frames"]

#: Frame numbers, in the order in which they were handed out.
Frames = npt.NDArray[np.uint32]


class Epc:
    """The pages of one EPC section, with a free list in the order of the Linux driver: FIFO.

    The free list is the owner's bookkeeping, not the machine's: leaves never look at it.

    Args:
        model: says where the section is and how large.

    Attributes:
        base: address of frame 0.
        frames: how many pages.
        store: page contents by frame, sparse; see :attr:`swsgx.native.abi.EpcmEntry.home`.
    """

    def __init__(self, model: CpuModel) -> None:
        self.base = model.epc_base
        self.frames = model.epc_size // PAGE_SIZE
        self.store = SharedRegion("sgx-epc", self.frames * PAGE_SIZE)
        # Runs of free frames, head first: [first, end) pairs, or arrays of what was given back.
        self._free: deque[Frames | tuple[int, int]] = deque([(0, self.frames)])
        self.free_count = self.frames
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of the section."""
        return self.frames * PAGE_SIZE

    def contains(self, address: int) -> bool:
        """Whether a byte at ``address`` is in the EPC."""
        return self.base <= address < self.base + self.frames * PAGE_SIZE

    def address(self, frame: int) -> EpcAddr:
        """The address of a frame."""
        return EpcAddr(self.base + frame * PAGE_SIZE)

    def frame(self, address: EpcAddr) -> int:
        """The number of the frame that holds ``address``, which must be in the EPC."""
        invariant(self.contains(address), "EPC: the address is in it", address=hex(address))
        return (address - self.base) // PAGE_SIZE

    def page(self, frame: int) -> memoryview:
        """The 4096 bytes of the frame's own storage."""
        return self.store.view[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE]

    def allocate(self) -> int | None:
        """Take the frame that has been free longest; None when there is none."""
        taken = self.allocate_up_to(1)
        return int(taken[0]) if len(taken) else None

    def allocate_run(self, count: int) -> Frames:
        """Take the ``count`` frames that have been free longest; there must be as many."""
        taken = self.allocate_up_to(count)
        invariant(len(taken) == count, "EPC: enough frames are free", count=count, free=len(taken))
        return taken

    def allocate_up_to(self, count: int) -> Frames:
        """Take the ``count`` frames that have been free longest, or as many as there are."""
        with self._lock:
            return self._take(min(count, self.free_count))

    def _take(self, count: int) -> Frames:
        taken: list[Frames] = []
        wanted = count
        while wanted:
            head = self._free.popleft()
            if isinstance(head, tuple):
                first, end = head
                cut = min(first + wanted, end)
                taken.append(np.arange(first, cut, dtype=np.uint32))
                if cut < end:
                    self._free.appendleft((cut, end))
            else:
                taken.append(head[:wanted])
                if len(head) > wanted:
                    self._free.appendleft(head[wanted:])
            wanted -= len(taken[-1])
        self.free_count -= count
        return taken[0] if len(taken) == 1 else np.concatenate(taken or [np.empty(0, np.uint32)])

    def free(self, frames: int | Frames) -> None:
        """Put frames at the tail of the free list."""
        run = np.array([frames], np.uint32) if isinstance(frames, int) else frames
        if len(run):
            with self._lock:
                self._free.append(run)
                self.free_count += len(run)

    def unread(self, frames: Frames) -> None:
        """Put frames back at the head: they were taken, and were never needed."""
        if len(frames):
            with self._lock:
                self._free.appendleft(frames)
                self.free_count += len(frames)

    def close(self) -> None:
        """Give the memory back."""
        self.store.close()
