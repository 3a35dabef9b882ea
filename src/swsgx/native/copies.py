"""Private copies of an enclave's code in a process: patched exit sites, and what a debugger outside has written.

Code is mapped private (:meth:`swsgx.native.runs.Runs.private`), so a page that was written to in one process is that
process's own, and does not follow when the enclave's contents change.
"""

from __future__ import annotations

import contextlib
import os
import struct

from swsgx.isa.address import PAGE_SIZE

__all__ = ["follow"]

_WORD = 8
_ENTRY = 8
#: Of an entry of /proc/PID/pagemap: in memory; in swap; of a file, or shared. (Anybody who may read it is told these.)
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61


def follow(pid: int, address: int, contents: memoryview) -> None:
    """Make words of a private copy, if there is one, what the enclave's contents are now.

    A patched exit is undone by that, and made again when it is next used; its jump lies in one word.

    Args:
        pid: the process; it may have died.
        address: of the words there, 8-byte aligned, in one page.
        contents: of the enclave.
    """
    with contextlib.suppress(OSError, struct.error):
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
            (entry,) = struct.unpack("<Q", os.pread(pagemap.fileno(), _ENTRY, address // PAGE_SIZE * _ENTRY))
        if entry & _FILE or not entry & (_PRESENT | _SWAPPED):
            return
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            # Threads may be running there: word by word, and none that stays as it is.
            for at in range(0, len(contents), _WORD):
                word = bytes(contents[at : at + _WORD])
                if os.pread(memory.fileno(), _WORD, address + at) != word:
                    os.pwrite(memory.fileno(), word, address + at)
