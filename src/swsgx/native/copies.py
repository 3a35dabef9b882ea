"""Private copies of an enclave's code in a process: patched exit sites, and what a debugger outside has written.

Code is mapped private (:meth:`swsgx.native.runs.Runs.private`), so a page that was written to in one process is that
process's own, and does not follow when the enclave's contents change.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable

from swsgx.isa.address import PAGE_SIZE

__all__ = ["follow"]

_WORD = 8
_ENTRY = 8
#: Of an entry of /proc/PID/pagemap: in memory; in swap; of a file, or shared. (Anybody who may read it is told these.)
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61


def follow(pid: int, parts: Iterable[tuple[int, int]], base: int, contents: memoryview) -> None:
    """Make words of private copies, where there are any, what the enclave's contents are now.

    A patched exit is undone by that, and made again when it is next used; its jump lies in one word.

    Args:
        pid: the process; it may have died.
        parts: start and end of each range of words there, 8-byte aligned, in one page.
        base: the enclave's first address.
        contents: of the enclave, all of it.
    """
    for start, end in parts:
        with contextlib.suppress(OSError, struct.error):
            if _is_copy(pid, start):
                _store(pid, start, contents[start - base : end - base])


def _is_copy(pid: int, address: int) -> bool:
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        (entry,) = struct.unpack("<Q", os.pread(pagemap.fileno(), _ENTRY, address // PAGE_SIZE * _ENTRY))
    return not entry & _FILE and bool(entry & (_PRESENT | _SWAPPED))


def _store(pid: int, address: int, contents: memoryview) -> None:
    """Threads may be running there: word by word, and none that stays as it is."""
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for at in range(0, len(contents), _WORD):
            word = bytes(contents[at : at + _WORD])
            if os.pread(memory.fileno(), _WORD, address + at) != word:
                os.pwrite(memory.fileno(), word, address + at)
