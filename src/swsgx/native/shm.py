"""Memory that two languages, and later several processes, look at together.

A :class:`SharedRegion` is a memfd and one mapping of it. Python sees the mapping as a memoryview (numpy can
be laid over it), C gets the file descriptor and maps it where it likes. A :class:`PrivateRegion` is of one process: a
fork's child has its own copy. Both are sparse: untouched pages cost nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from typing import Self

__all__ = ["PrivateRegion", "SharedRegion"]

#: What an ordinary user may make a pipe hold.
_LARGEST_PIPE = 1 << 20


class SharedRegion:
    """``size`` zeroed bytes in a memfd, mapped here.

    Args:
        name: shown in ``/proc/PID/maps`` as ``/memfd:NAME``; for people, need not be unique.
        size: bytes; rounded up to whole pages.

    Attributes:
        fd: the memfd, close-on-exec.
        size: bytes, a multiple of the page size.

    Raises:
        OSError: no memory or no file descriptor left.
    """

    def __init__(self, name: str, size: int) -> None:
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, self.size)
            self._map = mmap.mmap(self.fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError:
            os.close(self.fd)
            raise
        self.view = memoryview(self._map)

    def punch(self, offset: int, length: int) -> None:
        """Give ``length`` bytes at ``offset`` (page aligned both) back to the host; they read as zero again."""
        self._map.madvise(mmap.MADV_REMOVE, offset, length)

    def populate(self, offset: int, length: int) -> None:
        """Have memory for ``length`` bytes at ``offset``: pages that are not there are zero, and there, from now on.

        Raises:
            OSError: the host has none.
        """
        os.posix_fallocate(self.fd, offset, length)

    def take(self, offset: int, taken: memoryview) -> None:
        """Whole pages as they were at the moment when they vanished from here, whoever was writing to them.

        Args:
            offset: of the first.
            taken: gets their bytes; as long as all of them.

        A pipe gets references to the pages, no copies. Then they are punched out, which takes them from all who have
        mapped them; what is read from the pipe behind that, nobody can change any more.
        """
        length, at = len(taken), 0
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # more than a user may have: the usual size does, too
                fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, min(length, _LARGEST_PIPE))
            while at < length:
                moved = os.splice(self.fd, theirs, length - at, offset_src=offset + at)
                whole = moved // mmap.PAGESIZE * mmap.PAGESIZE
                if not whole or whole != moved:
                    raise OSError(errno.EIO, "splice(2) of shared memory moves whole pages")
                self.punch(offset + at, moved)
                while moved:
                    got = os.readv(ours, [taken[at : at + moved]])
                    at, moved = at + got, moved - got
        finally:
            os.close(ours)
            os.close(theirs)

    def close(self) -> None:
        """Unmap and close. Arrays laid over :attr:`view` must be gone before; else the mapping stays until they are."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        try:
            self.view.release()
            self._map.close()
        except BufferError:
            # Somebody still holds an array over it: the mapping goes when the last array does.
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class PrivateRegion:
    """``size`` zeroed bytes of this process alone. They go when nobody looks at them any more.

    Args:
        size: bytes; rounded up to whole pages.

    Raises:
        OSError: no memory.
    """

    def __init__(self, size: int) -> None:
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map = mmap.mmap(-1, self.size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self._map)

    def close(self) -> None:
        """Unmap. Arrays laid over :attr:`view` must be gone before; else the mapping stays until they are."""
        try:
            self.view.release()
            self._map.close()
        except BufferError:
            # Somebody still holds an array over it: the mapping goes when the last array does.
            pass
