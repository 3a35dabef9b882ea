"""Our own process as the driver sees it: memory that is read and written without ever faulting.

All raw memory of the in-process way is here and in :mod:`swsgx.inprocess.engine`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
from collections.abc import Iterator

from swsgx.isa.address import TargetAddr
from swsgx.linux.task import BadAddress, SourceVma
from swsgx.native.mappings import mapping_from

__all__ = [
    "MAP_FIXED",
    "MAP_FIXED_NOREPLACE",
    "MAP_NORESERVE",
    "PROT_NONE",
    "OwnMemory",
    "host_mmap",
    "host_munmap",
]

PROT_NONE = 0
MAP_FIXED = 0x10
MAP_NORESERVE = 0x4000
MAP_FIXED_NOREPLACE = 0x100000
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_VEC = ctypes.POINTER(_Iovec)
for _name in ("process_vm_readv", "process_vm_writev"):
    _function = getattr(_libc, _name)
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = [ctypes.c_int, _VEC, ctypes.c_ulong, _VEC, ctypes.c_ulong, ctypes.c_ulong]


def host_mmap(address: int, length: int, prot: int, flags: int, fd: int = -1, offset: int = 0) -> int:
    """mmap(2) at the level of addresses.

    Raises:
        OSError: what the host said.
    """
    result = _libc.mmap(address or None, length, prot, flags, fd, offset)
    if result is None or result == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap of {length:#x} bytes at {address:#x}: {os.strerror(number)}")
    return int(result)


def host_munmap(address: int, length: int) -> None:
    """munmap(2).

    Raises:
        OSError: what the host said.
    """
    if _libc.munmap(address, length):
        number = ctypes.get_errno()
        raise OSError(number, f"munmap of {length:#x} bytes at {address:#x}: {os.strerror(number)}")


class OwnMemory:
    """The memory of this process, as a :class:`swsgx.linux.task.TaskMemory`. A bad pointer is an error, not a crash."""

    def _move(self, function: str, address: int, buffer: ctypes.Array[ctypes.c_char], size: int) -> None:
        ours = _Iovec(ctypes.addressof(buffer), size)
        theirs = _Iovec(address, size)
        moved = getattr(_libc, function)(os.getpid(), ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        if moved != size:
            raise BadAddress(address)

    def read(self, address: TargetAddr, size: int) -> bytes:
        """Copy ``size`` bytes out.

        Raises:
            BadAddress: not all of it is readable.
        """
        buffer = ctypes.create_string_buffer(size)
        self._move("process_vm_readv", address, buffer, size)
        return buffer.raw

    def write(self, address: TargetAddr, data: bytes) -> None:
        """Copy ``data`` in.

        Raises:
            BadAddress: not all of it is writable.
        """
        self._move("process_vm_writev", address, ctypes.create_string_buffer(data, len(data)), len(data))

    def copy_to_file(self, fd: int, file_offset: int, address: TargetAddr, size: int) -> int:
        """Write our bytes at ``address`` into a file; returns how many were readable."""
        source = (ctypes.c_char * size).from_address(address)
        try:
            return os.pwrite(fd, source, file_offset)
        except OSError as error:
            if error.errno == errno.EFAULT:
                return 0
            raise

    def find_vma(self, address: TargetAddr) -> SourceVma | None:
        """The lowest mapping that ends above ``address``."""
        found = mapping_from(os.getpid(), address)
        if found is None:
            return None
        return SourceVma(found.start, found.end, found.may_execute(os.getpid()), found.pinnable)


@contextlib.contextmanager
def aligned_buffer(size: int) -> Iterator[tuple[memoryview, int]]:
    """Page-aligned zeroed memory for the time of a with block: a view of it, and its address."""
    with mmap.mmap(-1, size) as area:
        view = memoryview(area)
        try:
            yield view, ctypes.addressof(ctypes.c_char.from_buffer(view))
        finally:
            view.release()
