"""Which pages of a private mapping of a file are still the file's.

Source: Linux, Documentation/admin-guide/mm/pagemap.rst; fs/proc/task_mmu.c (pte_to_pagemap_entry).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["PageState", "page_states", "private_pages", "read_through", "runs", "unwritten"]

_PAGE = 4096
_CHUNK = 1 << 20

_PRESENT, _SWAPPED, _FILE_OR_SHARED = np.uint64(1 << 63), np.uint64(1 << 62), np.uint64(1 << 61)


class PageState(IntEnum):
    """What the pagemap says of a page of a private mapping."""

    ABSENT = 0  # nothing: the page was not touched, or its memory was given back
    MAPPED = 1  # it is the file's own
    COPIED = 2  # it was written to, and may even be swapped out


def page_states(entries: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """A :class:`PageState` for each entry."""
    known = (entries & (_PRESENT | _SWAPPED)) != 0
    file = (entries & _FILE_OR_SHARED) != 0
    return np.where(known, np.where(file, PageState.MAPPED, PageState.COPIED), PageState.ABSENT).astype(
        np.uint8
    )


def runs(states: NDArray[np.uint8]) -> Iterator[tuple[int, int, PageState]]:
    """Maximal runs of equal states: first index, one past the last, state."""
    if not len(states):
        return
    cuts = (np.flatnonzero(np.diff(states)) + 1).tolist()
    for first, last in zip([0, *cuts], [*cuts, len(states)], strict=True):
        yield first, last, PageState(int(states[first]))


def private_pages(
    pid: int, first: int, last: int, touch: Callable[[int, int], None]
) -> Iterator[tuple[int, int, PageState]]:
    """Runs of pages of equal state, counted in pages from the first.

    Args:
        pid: the process.
        first, last: addresses, whole pages, within one private mapping.
        touch: makes pages present by reading them, address and length; asked for those that are absent.
    """
    states = _padded_states(pid, first, last)
    absent = [(begin, end) for begin, end, state in runs(states) if state is PageState.ABSENT]
    for begin, end in absent:
        touch(first + begin * _PAGE, (end - begin) * _PAGE)
    if absent:
        states = _padded_states(pid, first, last)
    yield from runs(states)


def unwritten(pid: int, first: int, last: int) -> int:
    """How many pages of a range, from the first on, are no copies: each is the file's, or will be when it is touched.

    Args:
        pid: the process.
        first, last: addresses, whole pages, within one mapping.
    """
    states = page_states(_entries(pid, first, last))
    copied = np.flatnonzero(states == PageState.COPIED)
    return int(copied[0]) if len(copied) else len(states)


def read_through(pid: int, address: int, length: int) -> None:
    """Read a process's memory, so that its pages are present; what cannot be read stays absent."""
    try:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for at in range(address, address + length, _CHUNK):
            os.pread(fd, min(_CHUNK, address + length - at), at)
    except OSError:
        pass
    finally:
        os.close(fd)


def _padded_states(pid: int, first: int, last: int) -> NDArray[np.uint8]:
    """Of a range, a state for each page: one whose entry cannot be read is absent."""
    states = page_states(_entries(pid, first, last))
    return np.pad(states, (0, (last - first) // _PAGE - len(states)), constant_values=PageState.ABSENT)


def _entries(pid: int, first: int, last: int) -> NDArray[np.uint64]:
    """The pagemap of a range, as far as it can be read."""
    size = (last - first) // _PAGE * 8
    data = bytearray()
    try:
        fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return np.zeros(0, np.uint64)
    try:
        while len(data) < size:
            part = os.pread(fd, size - len(data), first // _PAGE * 8 + len(data))
            if not part:
                break
            data += part
    except OSError:
        pass
    finally:
        os.close(fd)
    return np.frombuffer(bytes(data[: len(data) // 8 * 8]), dtype="<u8").astype(np.uint64)
