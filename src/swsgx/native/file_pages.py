"""A file's pages as memory that system calls read from."""

from __future__ import annotations

import mmap

__all__ = ["file_pages"]


def file_pages(fd: int) -> memoryview:
    """All bytes of a file, as long as it is now; they are mapped for as long as the view lives.

    They are for system calls only, which say EFAULT where the file is not so long any more: whoever else reads there is
    killed.

    Args:
        fd: of the file, open for reading.

    Raises:
        OSError: the file cannot be mapped.
    """
    try:
        return memoryview(mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ))
    except ValueError:
        return memoryview(b"")  # what mmap says of an empty file
