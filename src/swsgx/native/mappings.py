"""The mappings of a process, our own or another: all of them, or the one at an address.

Since Linux 6.11 the kernel answers for one address (PROCMAP_QUERY, an ioctl of ``/proc/PID/maps``); before, all lines
are read, which costs the more the more there are. Both say the same. A process that has died looks like one without
mappings.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["Mapping", "mapping_from", "mappings", "mappings_from", "occupied"]

#: struct procmap_query of linux/fs.h, and ``_IOWR('f', 17, struct procmap_query)``.
_QUERY = struct.Struct("=9Q4I2Q")
_PROCMAP_QUERY = 3 << 30 | _QUERY.size << 16 | ord("f") << 8 | 17
_COVERING_OR_NEXT = 0x10
#: PATH_MAX: the kernel writes no longer names here.
_NAME_SIZE = 4096
#: PROCMAP_QUERY_VMA_READABLE and so on are the bits of this number, as ``/proc/PID/maps`` shows them.
_PERMISSIONS = tuple(
    "".join(letter if flags >> bit & 1 else "-" for bit, letter in enumerate("rwx")) + "ps"[flags >> 3]
    for flags in range(16)
)
#: In the file, but no mapping of the process: the kernel's own find_vma does not know it.
_VSYSCALL = "[vsyscall]"
#: Memory of the kernel's that get_user_pages does not work on.
_DEVICE_MEMORY = ("[vvar]", "[vvar_vclock]")


class Mapping(NamedTuple):
    """One line of ``/proc/PID/maps``.

    Attributes:
        start, end: addresses.
        permissions: like ``r-xp``.
        offset: in the file, bytes.
        device: as the kernel prints it, ``major:minor``.
        inode: 0 for memory without a file.
        path: of the file, or a name in brackets; empty for anonymous memory.
    """

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: str

    @property
    def pinnable(self) -> bool:
        """Whether get_user_pages works on it."""
        return self.path not in _DEVICE_MEMORY

    def may_execute(self, pid: int) -> bool:
        """VM_MAYEXEC: it is executable, or mprotect could make it so; False on a noexec mount.

        Args:
            pid: the process, whose root directory may be another one than ours.
        """
        if "x" in self.permissions or not self.path.startswith("/"):
            return True
        try:
            where = f"/proc/{pid}/root{self.path.removesuffix(' (deleted)')}"
            return not os.statvfs(where).f_flag & os.ST_NOEXEC
        except OSError:
            return True  # a memfd, or a file that is gone: not on a mount that could say noexec


def mappings(pid: int) -> Iterator[Mapping]:
    """All mappings of a process, ascending; none when it is gone."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            for line in lines:
                fields = line.split(maxsplit=5)
                start, _, end = fields[0].partition("-")
                # The only character that is written in another way.
                path = fields[5].removesuffix("\n").replace("\\012", "\n") if len(fields) > 5 else ""
                if path != _VSYSCALL:
                    yield Mapping(
                        int(start, 16),
                        int(end, 16),
                        fields[1],
                        int(fields[2], 16),
                        fields[3],
                        int(fields[4]),
                        path,
                    )
    except (FileNotFoundError, ProcessLookupError):
        return


def mappings_from(pid: int, address: int) -> Iterator[Mapping]:
    """The mappings that end above ``address``, ascending: for those who want few of them."""
    try:
        # Opened anew each time: a descriptor would show the old program after execve, and a fork's parent.
        with open(f"/proc/{pid}/maps", "rb", buffering=0) as maps:
            while (found := _query(maps, address)) is not None:
                yield found
                address = found.end
        return
    except (FileNotFoundError, ProcessLookupError):
        return
    except OSError:
        pass  # ENOTTY: a kernel before 6.11; ENAMETOOLONG: a path that only the file shows
    yield from (mapping for mapping in mappings(pid) if mapping.end > address)


def mapping_from(pid: int, address: int) -> Mapping | None:
    """The lowest mapping that ends above ``address`` (it may start above it, too); None if there is none."""
    return next(mappings_from(pid, address), None)


def occupied(pid: int, address: int, length: int) -> bool:
    """Whether the process has a mapping in the range."""
    found = mapping_from(pid, address)
    return found is not None and found.start < address + length


def _query(maps: BinaryIO, address: int) -> Mapping | None:
    """PROCMAP_QUERY.

    Raises:
        OSError: the kernel does not know it, or cannot say.
    """
    name = ctypes.create_string_buffer(_NAME_SIZE)
    at = ctypes.addressof(name)
    question = _QUERY.pack(
        _QUERY.size, _COVERING_OR_NEXT, address, 0, 0, 0, 0, 0, 0, 0, 0, _NAME_SIZE, 0, at, 0
    )
    try:
        answer = _QUERY.unpack(fcntl.ioctl(maps, _PROCMAP_QUERY, question))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    start, end, flags, _, offset, inode, major, minor = answer[3:11]
    path = name.value.decode("utf-8", "surrogateescape")
    return Mapping(start, end, _PERMISSIONS[flags & 15], offset, f"{major:02x}:{minor:02x}", inode, path)
