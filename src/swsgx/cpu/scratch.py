"""Memory for what is encrypted or decrypted at a time, used again and again.

Fresh memory of this size costs a page fault and the zeroing of each 4 KiB, which together is as much as the cipher.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["Scratch"]


class Scratch:
    """Some pieces of memory; there are as many as were ever lent at once.

    Args:
        size: bytes of each.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # Its methods are atomic.
        self._free: list[npt.NDArray[np.uint8]] = []

    @contextlib.contextmanager
    def table(self, count: int, width: int) -> Iterator[npt.NDArray[np.uint8]]:
        """A contiguous table of bytes whose contents are whatever was there; nobody may use it behind the block.

        Args:
            count, width: rows, and bytes of each. A table that is larger than the pieces is made for the occasion.
        """
        wanted = count * width
        if wanted > self._size:
            yield np.empty((count, width), np.uint8)
            return
        try:
            piece = self._free.pop()
        except IndexError:
            piece = np.empty(self._size, np.uint8)
        try:
            yield piece[:wanted].reshape(count, width)
        finally:
            self._free.append(piece)
