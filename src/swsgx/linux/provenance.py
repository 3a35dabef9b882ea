"""Who asks, and where the contents of pages come from: what the driver knows and a security module decides by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from swsgx.isa.address import TargetAddr

__all__ = ["Extent", "FilePages", "Origin", "OriginClass", "OriginFile", "Provenance", "Subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks.

    Attributes:
        pid, uid: of the caller.
        exe: path of its program.
        label: its security label; empty if it has none.
        labelled_by: how the label was obtained.
        comm: short name of its program, as in /proc/PID/comm.
    """

    pid: int
    uid: int
    exe: str
    label: str = ""
    labelled_by: str = ""
    comm: str = ""


class OriginClass(Enum):
    """What kind of memory a source page is."""

    FILE = "file"
    FILEMOD = "filemod"
    MEMFD = "memfd"
    SHM = "shm"
    ANON = "anon"
    UNKNOWN = "unknown"


class OriginFile(Protocol):
    """The file itself, for a module that wants to know more of it than its names."""

    def digest(self, algorithm: str, *, most: int | None = None) -> bytes:
        """Of the whole file, now.

        Args:
            algorithm: as hashlib names it.
            most: bytes that the file may have; None: any number.

        Raises:
            OSError: it cannot be read, or is larger.
        """
        ...

    def attribute(self, name: str) -> bytes | None:
        """An extended attribute, such as ``security.ima``; None if there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the contents of a mapping come from, as it was when they were taken. Never changes.

    Attributes:
        kind: file, modified private copy of a file, and so on; unknown counts as anonymous.
        path: of the file at that time; empty if none.
        device, inode: of the file.
        offset: file offset of the mapping's first byte.
        shared: MAP_SHARED.
        deleted: the file has no name any more.
        noexec: its mount is noexec.
        writers: somebody has it open for writing.
        unwatched: its filesystem cannot tell that it changed, as with FUSE.
        mode: permission bits.
        owner: user that owns it; None: not known.
        filesystem: kind of its filesystem, like ``ext4``; empty: not known.
        label: its security label.
        file: to look at its contents; None if nobody can. Two origins can be equal without it.
    """

    kind: OriginClass
    path: str = ""
    device: int = 0
    inode: int = 0
    offset: int = 0
    shared: bool = False
    deleted: bool = False
    noexec: bool = False
    writers: bool = False
    unwatched: bool = False
    mode: int = 0
    owner: int | None = None
    filesystem: str = ""
    label: str = ""
    file: OriginFile | None = field(default=None, compare=False, repr=False)

    @property
    def anonymous(self) -> bool:
        """Whether nobody vouches for it by a file's name: a deleted file, a memfd and shm count as anonymous memory."""
        return self.deleted or self.kind not in (OriginClass.FILE, OriginClass.FILEMOD)


@dataclass(frozen=True, slots=True)
class Extent:
    """Consecutive source memory of one origin.

    Attributes:
        size: bytes; of source pages, whole ones.
        origin: of all of them; None: unknown.
    """

    size: int
    origin: Origin | None


class FilePages(Protocol):
    """Pages of a file, as a program has them in its memory at one moment; of one mapping, and good for one call.

    What is copied from the file itself is the file's, whatever the program does meanwhile: nobody need compare it.
    """

    @property
    def start(self) -> int:
        """The program's address of the first, page aligned."""
        ...

    @property
    def end(self) -> int:
        """The address after the last."""
        ...

    def copy_to_file(self, fd: int, file_offset: int, address: int, size: int) -> Origin | None:
        """Copy some of them from the file that the program has them from into another one.

        Args:
            fd, file_offset: where they are written to.
            address: of the first, page aligned.
            size: bytes, whole pages.

        Returns:
            Origin of all that was copied; None: anything is there, since the file is shorter now, or what is known of
                it is too old.
        """
        ...


class Provenance(Protocol):
    """Tells where the pages of one program come from, finer than mapping by mapping."""

    def unwritten(self, address: TargetAddr, size: int) -> FilePages | None:
        """Pages of data that the program has from a file, and has not written to.

        Args:
            address: of the first, page aligned.
            size: bytes that are wanted, whole pages.

        Returns:
            The first ones of them, or all; None: where this cannot be told without a look at their contents.
        """
        ...

    def extents(self, address: TargetAddr, contents: memoryview, *, code: bool = True) -> Iterable[Extent]:
        """Cut bytes that were copied out of the program's memory by origin.

        It is asked when they are copied, and what was copied is what will be there: memory that was written in between
        must count as modified. What is told may be worse than what was copied, and never better.

        Args:
            address: where they were copied from; of pages, page aligned.
            contents: the copied bytes; of pages, whole ones. Only to be read, and only during the call.
            code: they are to be executed, or believed: then a private copy is a modified one, whatever is in it now.

        Returns:
            Extents that cover the bytes in their order, of pages in whole pages; what they do not reach has an unknown
            origin.
        """
        ...
