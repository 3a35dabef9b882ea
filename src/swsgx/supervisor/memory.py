"""The memory of another process: read and written without stopping it.

Nothing here raises for a bad pointer of the program's but :class:`~swsgx.linux.task.BadAddress`; a process that has
died looks like one without memory.
"""

from __future__ import annotations

import ctypes
import os

from swsgx.linux.task import BadAddress, SourceVma
from swsgx.native.mappings import mapping_from

__all__ = ["TargetMemory"]

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


for _name in ("process_vm_readv", "process_vm_writev"):
    _function = getattr(_libc, _name)
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = [
        ctypes.c_int,
        ctypes.POINTER(_Iovec),
        ctypes.c_ulong,
        ctypes.POINTER(_Iovec),
        ctypes.c_ulong,
        ctypes.c_ulong,
    ]

#: Bytes that are copied from one process to another at a time.
_CHUNK = 1 << 20


class TargetMemory:
    """A process's memory, as a :class:`swsgx.linux.task.TaskMemory`.

    Args:
        pid: a task of the process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def _move(self, function: str, address: int, buffer: ctypes.Array[ctypes.c_char], size: int) -> int:
        ours = _Iovec(ctypes.addressof(buffer), size)
        theirs = _Iovec(address, size)
        moved = getattr(_libc, function)(self.pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        return int(moved)

    def read(self, address: int, size: int) -> bytes:
        """Copy ``size`` bytes out.

        Raises:
            BadAddress: not all of it is readable.
        """
        buffer = ctypes.create_string_buffer(size)
        if self._move("process_vm_readv", address, buffer, size) != size:
            raise BadAddress(address)
        return buffer.raw

    def write(self, address: int, data: bytes) -> None:
        """Copy ``data`` in.

        Raises:
            BadAddress: not all of it is writable.
        """
        buffer = ctypes.create_string_buffer(data, len(data))
        if self._move("process_vm_writev", address, buffer, len(data)) != len(data):
            raise BadAddress(address)

    def text(self, address: int, limit: int = 4096) -> bytes:
        """A string that ends with a zero byte, without it.

        Raises:
            BadAddress: it is not readable to its end.
        """
        found = bytearray()
        while len(found) < limit:
            at = address + len(found)
            found += self.read(at, min(256, 4096 - at % 4096))
            end = found.find(b"\0")
            if end >= 0:
                return bytes(found[:end])
        return bytes(found)

    def copy_to_file(self, fd: int, file_offset: int, address: int, size: int) -> int:
        """Write the program's bytes at ``address`` into a file; returns how many were readable."""
        buffer = ctypes.create_string_buffer(min(size, _CHUNK))
        done = 0
        while done < size:
            wanted = min(size - done, _CHUNK)
            moved = self._move("process_vm_readv", address + done, buffer, wanted)
            if moved <= 0:
                break
            view = memoryview(buffer)[:moved]
            while view:
                written = os.pwrite(fd, view, file_offset + done)
                done += written
                view = view[written:]
            if moved < wanted:
                break
        return done

    def find_vma(self, address: int) -> SourceVma | None:
        """The lowest mapping that ends above ``address``."""
        found = mapping_from(self.pid, address)
        if found is None:
            return None
        return SourceVma(found.start, found.end, found.may_execute(self.pid), found.pinnable)
