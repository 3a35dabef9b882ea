"""Who asks, and where the memory comes from that it hands to the driver: what the driver is told about a process.

What a program says of itself is not asked: the kernel says who it is, and which files its memory is of. A program with
two threads can change a page, and its mappings, around any look at them; so bytes that were copied are compared with
the file that is said to be their source, and where they differ, they are a modified copy, whatever the tables said.
Data that the kernel calls unwritten is copied from the file itself, and is the file's by that.

In a mount namespace of its own a program can give any file any path. A path counts only if the same file has it where
we are, which is where the policy was written.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.linux.provenance import Extent, Origin, OriginClass, Subject
from swsgx.lsm.file_facts import FileDigests, ProvenanceError
from swsgx.lsm.provenance import Extent as Facts
from swsgx.lsm.provenance import Provenance

__all__ = ["ATTRIBUTE", "MappedFile", "ProcessMemory", "SourceFiles", "UnwrittenPages", "subject_of"]

#: Where a process's security label is, below its folder in /proc; a subject's label says that it was found there.
ATTRIBUTE = "attr/current"
#: For how many bytes at most the pagemap is looked at in advance.
_AHEAD = 16 << 20
#: The user of a process that is gone: that of nobody, (uid_t) -1.
_NO_USER = (1 << 32) - 1


def subject_of(tid: int) -> Subject:
    """The process of a task. One that is dying has neither program nor label, and no user's rights; one whose program
    has another path here, or none, has no program.
    """
    pid, uid = _numbers(tid)
    folder = Path("/proc") / str(pid)
    try:
        exe = str((folder / "exe").readlink())
        program = (folder / "exe").stat()
    except OSError:
        exe = ""
    else:
        exe = exe if _is_here(exe, program.st_dev, program.st_ino) else ""
    label = _text(folder / ATTRIBUTE)
    return Subject(pid, uid, exe, label, ATTRIBUTE if label else "", _text(folder / "comm"))


def _numbers(tid: int) -> tuple[int, int]:
    """Process and effective user of a task."""
    pid, uid = tid, _NO_USER
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                if line.startswith("Tgid:"):
                    pid = int(line.split()[1])
                elif line.startswith("Uid:"):
                    uid = int(line.split()[2])  # real, effective, saved, that of file accesses
                    break
    except (FileNotFoundError, ProcessLookupError):
        pass
    return pid, uid


def _is_here(path: str, device: int, inode: int) -> bool:
    """Whether a file has that path for us, too."""
    try:
        status = Path(path).stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


def _text(path: Path) -> str:
    """A line of a file in /proc; empty if the kernel has none."""
    try:
        return os.fsdecode(path.read_bytes().rstrip(b"\0\n"))
    except OSError:
        return ""


class SourceFiles:
    """Digests of the files that a run's enclaves come from: each is computed once while the file stands still."""

    def __init__(self) -> None:
        self._digests = FileDigests()
        self._lock = threading.Lock()

    def digest(self, fd: int, algorithm: str, *, keep: bool, most: int | None = None) -> bytes:
        """As :meth:`swsgx.lsm.file_facts.FileDigests.digest`, for many threads."""
        with self._lock:
            return self._digests.digest(fd, algorithm, keep=keep, most=most)


class MappedFile:
    """The file that a piece of a process's memory is of (:class:`swsgx.linux.provenance.OriginFile`).

    It can be looked at while the process maps it there.

    Args:
        looked: what found it.
        facts: the memory.
        files: where digests are kept.
    """

    def __init__(self, looked: Provenance, facts: Facts, files: SourceFiles) -> None:
        self._looked = looked
        self._facts = facts
        self._files = files

    def _open(self) -> int:
        try:
            return self._looked.open(self._facts)
        except ProvenanceError as error:
            raise OSError(errno.ESTALE, str(error)) from None

    def digest(self, algorithm: str, *, most: int | None = None) -> bytes:
        fd = self._open()
        try:
            return self._files.digest(fd, algorithm, keep=not self._facts.unreliable, most=most)
        except ProvenanceError as error:
            raise OSError(errno.EIO, str(error)) from None
        finally:
            os.close(fd)

    def attribute(self, name: str) -> bytes | None:
        fd = self._open()
        try:
            return os.getxattr(fd, name)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class UnwrittenPages:
    """Pages that a process has from a file (:class:`swsgx.linux.provenance.FilePages`).

    Attributes:
        looked: what found them.
        facts, origin: of the whole mapping.
        start, end: addresses.
    """

    looked: Provenance
    facts: Facts
    origin: Origin
    start: int
    end: int

    def copy_to_file(self, fd: int, file_offset: int, address: int, size: int) -> Origin | None:
        position = address - self.facts.start
        try:
            copied = self.looked.copy_to_file(self.facts, position, size, fd, file_offset)
        except ProvenanceError:
            return None
        return replace(self.origin, offset=self.facts.offset + position) if copied else None


class ProcessMemory:
    """Where one process's memory comes from (:class:`swsgx.linux.provenance.Provenance`).

    Args:
        pid: of the process.
        files: where digests are kept.
    """

    def __init__(self, pid: int, files: SourceFiles) -> None:
        self._looked = Provenance(pid)
        self._files = files
        self._whole: tuple[Facts, Facts, Origin] | None = None

    def unwritten(self, address: TargetAddr, size: int) -> UnwrittenPages | None:
        size = min(size, _AHEAD)
        lately = self._lately(address, size)
        if lately is None:
            return None
        whole, named, origin = lately
        if named.kind is not OriginClass.FILE:
            return None
        size = self._looked.unwritten(whole, address, size)
        return UnwrittenPages(self._looked, named, origin, address, address + size) if size else None

    def extents(self, address: TargetAddr, contents: memoryview, *, code: bool = True) -> Iterator[Extent]:
        start, end = int(address), address + len(contents)
        first, last = start // PAGE_SIZE * PAGE_SIZE, -(-end // PAGE_SIZE) * PAGE_SIZE
        origin = self._again(start, first, last, contents) if not code else None
        if origin is not None:
            yield Extent(len(contents), origin)
            return
        try:
            found = self._looked.extents(first, last - first, pages=code)
        except ProvenanceError:
            return  # the process is gone: an unknown origin
        for facts in map(self._named, found):
            low, high = max(facts.start, start), min(facts.start + facts.length, end)
            cut = replace(facts, start=low, length=high - low, offset=facts.offset + low - facts.start)
            for part in self._compared(cut, contents[low - start : high - start]):
                yield Extent(part.length, self._origin(part))

    def _again(self, start: int, first: int, last: int, contents: memoryview) -> Origin | None:
        """The origin of one more piece of a mapping that was looked at a moment ago, if it is all of one kind."""
        lately = self._lately(first, last - first)
        if lately is None:
            return None
        _, named, origin = lately
        try:
            if named.kind is OriginClass.FILE and not self._looked.holds(
                named, start - named.start, contents
            ):
                return None
        except ProvenanceError:
            return None
        return replace(origin, offset=named.offset + start - named.start)

    def _lately(self, first: int, length: int) -> tuple[Facts, Facts, Origin] | None:
        """The mapping that covers whole pages, if it was looked at a moment ago: all of it as it was found, the same by
        its name here, and its origin.
        """
        whole = self._looked.whole(first, length)
        if whole is None:
            return None
        before = self._whole
        if before is None or before[0] is not whole:
            named = self._named(whole)
            before = self._whole = whole, named, self._origin(named)
        return before

    @staticmethod
    def _named(facts: Facts) -> Facts:
        """A file that has another path here is nobody's."""
        named = facts.kind in (OriginClass.FILE, OriginClass.FILEMOD) and not facts.deleted
        if not named or _is_here(facts.path, facts.device, facts.inode):
            return facts
        return replace(facts, kind=OriginClass.UNKNOWN)

    def _compared(self, facts: Facts, contents: memoryview) -> Iterator[Facts]:
        """The memory, in pieces, as a modified file where the bytes are not the file's."""
        whole = self._confirm(facts, contents)
        if whole.kind is facts.kind or facts.length <= PAGE_SIZE:
            yield whole
            return
        for at in range(0, facts.length, PAGE_SIZE):
            size = min(PAGE_SIZE, facts.length - at)
            page = replace(facts, start=facts.start + at, length=size, offset=facts.offset + at)
            yield self._confirm(page, contents[at : at + size])

    def _confirm(self, facts: Facts, contents: memoryview) -> Facts:
        try:
            return self._looked.confirm(facts, contents)
        except ProvenanceError:  # nobody can say what the file holds
            return replace(facts, kind=OriginClass.UNKNOWN)

    def _origin(self, facts: Facts) -> Origin:
        file = MappedFile(self._looked, facts, self._files) if facts.inode and not facts.anonymous else None
        return replace(facts.origin(), file=file)
