"""The Enclave Page Cache Map: what each EPC page is, to whom it belongs and what may be done with it.

One table in shared memory (:class:`swsgx.native.abi.EpcmEntry`): numpy sees it as columns, C as an array of
structures, and a single entry is a typed view.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swsgx.cpu.epc import Frames
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.native.abi import EpcmEntry, EpcmState
from swsgx.native.shm import SharedRegion

__all__ = ["HOME_ENCLAVE", "HOME_EPC", "Epcm", "is_consecutive"]

#: Contents are in the enclave's store, at ENCLAVEADDRESS - BASEADDR.
HOME_ENCLAVE = 0
#: Contents are in the EPC's store, at the frame's place.
HOME_EPC = 1

_VALID = int(EpcmState.VALID)


class Epcm:
    """The map, one entry a frame; entries start invalid.

    Args:
        frames: how many.

    Attributes:
        region: the shared memory that holds the table.
        columns: the table as a numpy record array; ``columns["perm"][frames]`` and so on.
    """

    def __init__(self, frames: int) -> None:
        self.region = SharedRegion("sgx-epcm", frames * EpcmEntry.size_of)
        self.columns: npt.NDArray[Any] = np.frombuffer(
            self.region.view, dtype=np.dtype(EpcmEntry.record_spec()), count=frames
        )
        self._state: npt.NDArray[np.uint8] = self.columns["state"]
        # The same entries as rows of four words: address; secs, pt, perm, state and home; epoch; reserved.
        self._words: npt.NDArray[np.uint64] = np.frombuffer(self.region.view, np.uint64, 4 * frames).reshape(
            -1, 4
        )

    def __getitem__(self, frame: int) -> EpcmEntry:
        return EpcmEntry(self.region.view[frame * EpcmEntry.size_of : (frame + 1) * EpcmEntry.size_of])

    def valid(self, frame: int) -> bool:
        """EPCM.VALID of one frame."""
        return bool(self._state[frame] & _VALID)

    def any_valid(self, frames: Frames) -> bool:
        """Whether one of the frames is valid."""
        return bool((self._state[frames] & _VALID).any())

    def set(
        self, frame: int, *, address: int, secs: int, pt: PageType, perm: int, state: EpcmState, home: int
    ) -> None:
        """Fill one entry; ``state`` is VALID plus whatever else holds. VALID appears last."""
        row = self.columns[frame : frame + 1]
        row["enclaveaddress"] = address
        row["secs"] = secs
        row["pt"] = pt
        row["perm"] = perm
        row["home"] = home
        row["epoch"] = 0
        row["state"] = int(state)

    def set_run(
        self,
        frames: Frames,
        *,
        first_address: int,
        secs: int,
        pt: PageType,
        perm: int,
        state: EpcmState = EpcmState.VALID,
    ) -> None:
        """Fill the entries of pages that follow each other in their enclave, as EADD does; home is the enclave."""
        count = len(frames)
        where: slice | Frames = frames
        if is_consecutive(frames):
            where = slice(int(frames[0]), int(frames[0]) + count)
        addresses = np.arange(first_address, first_address + count * PAGE_SIZE, PAGE_SIZE, dtype=np.uint64)
        words = self._words
        words[where, 0] = addresses
        words[where, 2] = 0
        words[where, 1] = secs | pt << 32 | perm << 40 | int(state) << 48 | HOME_ENCLAVE << 56

    def clear(self, frames: int | Frames) -> None:
        """Make entries invalid; nothing stays of what they were."""
        self._state[frames] = 0
        self._words[frames] = 0

    def children(self, secs: int) -> Frames:
        """The valid frames that belong to an enclave, its SECS not among them; ascending."""
        columns = self.columns
        mine = (self._state & _VALID != 0) & (columns["secs"] == secs)
        mine &= (columns["pt"] != int(PageType.SECS)) & (columns["pt"] != int(PageType.VA))
        return np.flatnonzero(mine).astype(np.uint32)

    def close(self) -> None:
        """Give the memory back."""
        del self.columns, self._state, self._words
        self.region.close()


def is_consecutive(frames: Frames) -> bool:
    """Whether each frame is the one after its predecessor."""
    count = len(frames)
    if not count or int(frames[-1]) - int(frames[0]) != count - 1:
        return False
    return count < 3 or bool((frames[1:] - frames[:-1] == 1).all())
