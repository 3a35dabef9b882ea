"""Where the contents of a process's memory come from: facts only, no verdicts.

Whoever runs programs asks: the supervisor for its targets, the in-process library for itself. It hands the answer to
the driver's hooks, as :meth:`Extent.origin`, and to the audit log; nothing here knows of enclaves.

Memory that is mapped from a file may still not hold the file's bytes: a page of a private mapping that was written is
a copy. The process's pagemap tells: a page that is present and is neither a file's nor shared is a copy, and so is
one that was swapped out; one that is absent says nothing until it is touched. That is as it is at one moment. A
program with two threads can change a page, and give the change up again, around any such look; so what is loaded is
compared with the file itself in the end (:meth:`Provenance.confirm`), which no race defeats.

Source: Linux, Documentation/admin-guide/mm/pagemap.rst; fs/proc/task_mmu.c (show_map_vma, pagemap_read); proc(5).
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from swsgx.linux.security import Origin, OriginClass
from swsgx.lsm.audit import Source
from swsgx.lsm.file_facts import FileFacts, Mount, ProvenanceError, file_facts, parse_mounts, read_again
from swsgx.lsm.pagemap import PageState, private_pages, read_through, unwritten
from swsgx.native.file_pages import file_pages
from swsgx.native.mappings import Mapping, mapping_from, mappings_from

__all__ = ["Extent", "Provenance", "Vma", "kind_of"]

_PAGE = 4096
_CHUNK = 1 << 20
#: Seconds for which the facts of a mapping's file are believed, those about its writers among them.
_BELIEVED = 0.05
_DELETED = " (deleted)"

#: Filesystems whose files have other devices in stat than in maps (fs/overlayfs, fs/btrfs; overlay until 6.15).
_STACKED = ("overlay", "btrfs")

_KINDS = {
    PageState.ABSENT: OriginClass.UNKNOWN,
    PageState.MAPPED: OriginClass.FILE,
    PageState.COPIED: OriginClass.FILEMOD,
}

#: How memory of the kernel's own mounts is called; such a name on a mount that can be seen is an ordinary file.
_INTERNAL = (
    ("/memfd:", OriginClass.MEMFD),
    ("/dev/zero", OriginClass.SHM),
    ("/SYSV", OriginClass.SHM),
    ("/anon_hugepage", OriginClass.SHM),
)


@dataclass(frozen=True, slots=True)
class Vma:
    """One mapping, with its device as a number.

    Attributes:
        start, end: addresses.
        permissions: like ``r-xp``.
        offset: in the file, bytes.
        device: as in st_dev of most filesystems.
        inode: 0 for memory without a file.
        path: as the kernel tells it.
    """

    start: int
    end: int
    permissions: str
    offset: int
    device: int
    inode: int
    path: str

    @classmethod
    def of(cls, mapping: Mapping) -> Vma:
        """A mapping as the kernel tells it."""
        major, _, minor = mapping.device.partition(":")
        device = os.makedev(int(major, 16), int(minor, 16))
        return cls(
            mapping.start,
            mapping.end,
            mapping.permissions,
            mapping.offset,
            device,
            mapping.inode,
            mapping.path,
        )

    @property
    def shared(self) -> bool:
        """MAP_SHARED."""
        return self.permissions[3:4] == "s"

    @property
    def readable(self) -> bool:
        """PROT_READ."""
        return self.permissions[:1] == "r"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Consecutive memory from one source, as it was when it was looked at. Never changes.

    Attributes:
        start, length: addresses in the process, whole pages.
        kind: what it is; a file that cannot be identified is unknown.
        path: of the file, as the process sees it; empty if none.
        device, inode: of the file.
        offset: in the file, of the first byte.
        shared: MAP_SHARED.
        deleted: the file has no name any more.
        noexec: its mount is noexec.
        writers: somebody has it open for writing; None: cannot be told.
        filesystem: type of its filesystem; empty if not known.
        reports_changes: a change of the file shows in its times. False for FUSE and network filesystems.
        label: its security label; empty if none.
        mode: permission bits.
        uid: its owner; -1 if there is no file.
        mapping: start and end of the whole mapping.
    """

    start: int
    length: int
    kind: OriginClass
    path: str = ""
    device: int = 0
    inode: int = 0
    offset: int = 0
    shared: bool = False
    deleted: bool = False
    noexec: bool = False
    writers: bool | None = None
    filesystem: str = ""
    reports_changes: bool = False
    label: str = ""
    mode: int = 0
    uid: int = -1
    mapping: tuple[int, int] = (0, 0)

    @property
    def anonymous(self) -> bool:
        """Whether nothing vouches for it: no file with a name, whatever the memory is called."""
        return self.kind not in (OriginClass.FILE, OriginClass.FILEMOD) or self.deleted

    @property
    def unreliable(self) -> bool:
        """Whether a digest of the file may be out of date at once; a measurement of it is a violation."""
        return self.writers is True or not self.reports_changes

    def origin(self) -> Origin:
        """For the driver's hooks."""
        return Origin(
            kind=self.kind,
            path=self.path,
            device=self.device,
            inode=self.inode,
            offset=self.offset,
            shared=self.shared,
            deleted=self.deleted,
            noexec=self.noexec,
            writers=self.writers is True,
            unwatched=self.inode != 0 and not self.reports_changes,
            mode=self.mode,
            owner=self.uid if self.uid >= 0 else None,
            filesystem=self.filesystem,
            label=self.label,
        )

    def source(self, digest: str = "") -> Source:
        """For an audit record.

        Args:
            digest: of the whole file, like ``sha256:...``; empty if nobody computed it.
        """
        return Source(
            kind=self.kind.value,
            path=self.path,
            device=self.device,
            inode=self.inode,
            offset=self.offset if self.path else None,
            digest=digest,
        )


def kind_of(vma: Vma, facts: FileFacts | None, mounts: Iterable[Mount]) -> OriginClass:
    """What a mapping is before its pages are looked at.

    Args:
        vma: the mapping.
        facts: of its file; None if it cannot be identified.
        mounts: of the process.
    """
    if vma.inode == 0:
        named = vma.path.startswith("[") and not vma.path.startswith(("[heap]", "[stack", "[anon"))
        # The vDSO and its data are the kernel's.
        return OriginClass.UNKNOWN if named or vma.path.startswith("/") else OriginClass.ANON
    if all(mount.device != vma.device for mount in mounts):
        for prefix, kind in _INTERNAL:
            if vma.path.startswith(prefix):
                return kind
        if vma.path.startswith("[anon_shmem"):
            return OriginClass.SHM
    if facts is None or not facts.regular:
        return OriginClass.UNKNOWN
    if vma.path.startswith("/dev/shm/") and facts.filesystem == "tmpfs":
        return OriginClass.SHM
    return OriginClass.FILE


#: Facts of a mapping's file, its path, and what kind of memory it is.
_Look = tuple[FileFacts | None, str, OriginClass]


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found of one mapping: a loader adds its pages piece by piece."""

    mapping: Mapping
    vma: Vma
    look: _Look
    whole: Extent
    until: float

    def holds(self, pid: int, start: int, length: int) -> bool:
        """Whether it is believed of a range: for a moment, and while the same mapping covers it."""
        inside = self.vma.start <= start and start + length <= self.vma.end
        return inside and time.monotonic() < self.until and mapping_from(pid, start) == self.mapping


class _Open:
    """A file that is open for reading, and closed when nobody uses it any more; several threads may."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)

    @functools.cached_property
    def pages(self) -> memoryview:
        """Its bytes, for system calls only.

        Raises:
            OSError: it cannot be mapped.
        """
        return file_pages(self.fd)


class Provenance:
    """Looks at one process's memory.

    What a mapping's file is, is believed for a moment. Which of its pages were modified, is looked at each time.

    It takes what ptrace would take: the same user, or root. ``/proc/PID/map_files`` leads to the mapped file itself,
    and takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; without it the path is opened, and believed if device and inode
    are the mapping's.

    Args:
        pid: of the process; a task of it will do.
        touch: makes pages present by reading a range: address and length. By default ``/proc/PID/mem`` is read.
    """

    def __init__(self, pid: int, touch: Callable[[int, int], None] | None = None) -> None:
        self.pid = pid
        self._proc = Path("/proc") / str(pid)
        self._touch = touch or (lambda address, length: read_through(pid, address, length))
        self._known: _Known | None = None
        self._compared: tuple[tuple[object, ...], _Open] | None = None

    def extents(self, start: int, length: int, *, pages: bool = True) -> list[Extent]:
        """The sources of a range, ascending and without holes; what is not mapped is unknown.

        Args:
            start: address, whole pages.
            length: likewise.
            pages: tell private copies of a file's pages from the file's own. Whoever compares the bytes need not ask.

        Raises:
            ProvenanceError: the process is gone, or may not be looked at.
        """
        known = self._known
        if known is not None and known.holds(self.pid, start, length):
            return list(self._of_mapping(known.vma, start, start + length, known.look, pages=pages))
        return self._read(start, length, pages=pages)

    def whole(self, start: int, length: int) -> Extent | None:
        """All of the mapping that covers a range, as :meth:`extents` tells it without ``pages``.

        Returns:
            The same object as long as it is believed; None if the mapping was not looked at lately.
        """
        known = self._known
        return known.whole if known is not None and known.holds(self.pid, start, length) else None

    def _read(self, start: int, length: int, *, pages: bool) -> list[Extent]:
        found: list[Extent] = []
        at, end = start, start + length
        try:
            # Few lines are asked for: loaders ask page by page.
            mounts = parse_mounts(self._text("mountinfo"))
            covering = itertools.takewhile(lambda one: one.start < end, mappings_from(self.pid, start))
            for mapping in covering:
                vma = Vma.of(mapping)
                if vma.start > at:
                    found.append(_nothing(at, vma.start - at))
                # Where the process changes its mappings meanwhile, this one may begin before the last one's end.
                first, last = max(vma.start, at), min(vma.end, end)
                look = self._look(vma, mounts)
                if at == start:
                    (whole,) = self._of_mapping(vma, vma.start, vma.end, look, pages=False)
                    self._known = _Known(mapping, vma, look, whole, time.monotonic() + _BELIEVED)
                found += self._of_mapping(vma, first, last, look, pages=pages)
                at = last
                if at >= end:
                    break
        except OSError as error:
            raise ProvenanceError(f"process {self.pid} cannot be looked at: {error.strerror}") from None
        if at < end:
            found.append(_nothing(at, end - at))
        return found

    def open(self, extent: Extent) -> int:
        """The extent's file, for reading; whoever asks closes it.

        Raises:
            ProvenanceError: there is none, it may not be read, or the memory is another file's by now.
        """
        fd = self._open_path(
            extent.mapping, extent.inode, extent.path, lambda device: device == extent.device
        )
        if fd is None:
            raise ProvenanceError(f"{extent.path or 'memory without a file'}: is not there any more")
        try:
            return read_again(fd)
        except OSError as error:
            raise ProvenanceError(f"{extent.path}: cannot be read: {error.strerror}") from None
        finally:
            os.close(fd)

    def reachable(self, extent: Extent) -> Path:
        """The file's path through the process's own root: for what lies beside it, like a detached signature. What
        is there can be another file by now; :meth:`open` gives the mapped one.
        """
        return Path(f"{self._proc}/root{extent.path}")

    def confirm(self, extent: Extent, contents: bytes | memoryview) -> Extent:
        """The extent, as a modified file if bytes that were copied out of it are not the file's.

        Args:
            extent: what was said of the memory.
            contents: what was copied from its start, at most its length.

        Raises:
            ProvenanceError: the file cannot be read.
        """
        if extent.kind is not OriginClass.FILE or self.holds(extent, 0, contents):
            return extent
        return replace(extent, kind=OriginClass.FILEMOD)

    def holds(self, extent: Extent, position: int, contents: bytes | memoryview) -> bool:
        """Whether bytes that were copied from ``position`` on out of an extent of a file are the file's.

        Raises:
            ProvenanceError: the file cannot be read.
        """
        file = self._held(extent)
        try:
            for at in range(0, len(contents), _CHUNK):
                part = contents[at : at + _CHUNK]
                held = os.pread(file.fd, len(part), extent.offset + position + at)
                # Beyond the file's end, its last page holds zeros.
                if not _same(held, part[: len(held)]) or any(part[len(held) :]):
                    return False
        except OSError as error:
            raise ProvenanceError(f"{extent.path}: cannot be read: {error.strerror}") from None
        return True

    def unwritten(self, whole: Extent, start: int, length: int) -> int:
        """How much of a file's mapping can be had from the file: readable, and not written to, by the kernel's word.

        Args:
            whole: the mapping, as :meth:`whole` told it.
            start: an address in it, page aligned.
            length: bytes, whole pages.

        Returns:
            Bytes from ``start`` on, whole pages.
        """
        known = self._known
        if known is None or known.whole is not whole or not known.vma.readable or not whole.reports_changes:
            return 0
        # A file of overlay can have been copied up since it was mapped: opened again, it is another one.
        if whole.kind is not OriginClass.FILE or whole.filesystem in _STACKED:
            return 0
        return unwritten(self.pid, start, start + length) * _PAGE

    def copy_to_file(self, whole: Extent, position: int, length: int, fd: int, at: int) -> bool:
        """Copy bytes of a mapping's file from ``position`` in the mapping on to ``at`` in another file.

        Args:
            whole: the mapping, as :meth:`whole` told it.
            position, length: bytes.
            fd, at: where they are written to.

        Returns:
            Whether all was copied; if not, anything may be there: the file is shorter, or what was said of it is not
            believed any more.

        Raises:
            ProvenanceError: the file cannot be read.
        """
        known = self._known
        if known is None or known.whole is not whole or time.monotonic() >= known.until:
            return False
        file = self._held(whole)
        first = whole.offset + position
        try:
            pages = file.pages[first : first + length]
            return len(pages) == length and os.pwrite(fd, pages, at) == length
        except OSError:
            return False

    def _held(self, extent: Extent) -> _Open:
        """The extent's file, open as long as no other one is asked for; it is the one that the extent names."""
        key = (extent.mapping, extent.device, extent.inode, extent.path)
        before = self._compared
        if before is None or before[0] != key:
            before = self._compared = key, _Open(self.open(extent))
        return before[1]

    def _text(self, name: str) -> str:
        # Not as text: a carriage return in a file's name must not become a line end, and a line.
        return os.fsdecode((self._proc / name).read_bytes())

    def _of_mapping(self, vma: Vma, first: int, last: int, look: _Look, *, pages: bool) -> Iterator[Extent]:
        facts, path, kind = look
        deleted = vma.path.endswith(_DELETED) if facts is None else facts.links == 0
        whole = Extent(
            start=first,
            length=last - first,
            kind=kind,
            path=path.removesuffix(_DELETED) if deleted else path,
            device=facts.device if facts else vma.device,
            inode=vma.inode,
            offset=vma.offset + first - vma.start,
            shared=vma.shared,
            deleted=deleted,
            noexec=facts.noexec if facts else False,
            # The kernel does not count who writes its own mounts' files.
            writers=facts.writers if facts and kind is OriginClass.FILE else None,
            filesystem=facts.filesystem if facts else "",
            reports_changes=facts.reports_changes if facts else False,
            label=facts.label if facts else "",
            mode=facts.mode if facts else 0,
            uid=facts.uid if facts else -1,
            mapping=(vma.start, vma.end),
        )
        if kind is not OriginClass.FILE or vma.shared or not pages:
            yield whole
            return
        for begin, end, state in private_pages(self.pid, first, last, self._touch):
            yield replace(
                whole,
                start=first + begin * _PAGE,
                length=(end - begin) * _PAGE,
                offset=whole.offset + begin * _PAGE,
                kind=_KINDS[state],
            )

    def _look(self, vma: Vma, mounts: list[Mount]) -> _Look:
        """Facts of a mapping's file, its path, and what kind of memory it is."""
        facts, path = self._file(vma, mounts)
        return facts, path, kind_of(vma, facts, mounts)

    def _file(self, vma: Vma, mounts: list[Mount]) -> tuple[FileFacts | None, str]:
        if vma.inode == 0:
            return None, ""
        # Overlay and btrfs give files other devices than their mappings show.
        stacked = {mount.device for mount in mounts if mount.filesystem in _STACKED}

        def same(device: int) -> bool:
            return device == vma.device or device in stacked or vma.device in stacked

        fd = self._open_path((vma.start, vma.end), vma.inode, vma.path, same)
        if fd is None:
            return None, vma.path
        try:
            return file_facts(fd, mounts), self._link((vma.start, vma.end)) or vma.path
        finally:
            os.close(fd)

    def _link(self, mapping: tuple[int, int]) -> str:
        """The path without the escapes of ``maps``; empty if it may not be read."""
        try:
            return str(self._map_file(mapping).readlink())
        except OSError:
            return ""

    def _map_file(self, mapping: tuple[int, int]) -> Path:
        return self._proc / "map_files" / f"{mapping[0]:x}-{mapping[1]:x}"

    def _open_path(
        self, mapping: tuple[int, int], inode: int, path: str, same: Callable[[int], bool]
    ) -> int | None:
        """The mapped file, by O_PATH; None if it cannot be found or is another one, by its inode and device."""
        candidates = [self._map_file(mapping)]
        if path.startswith("/"):
            # The root of the process is where its paths start.
            candidates.append(Path(f"{self._proc}/root{path}"))
        for candidate in candidates:
            try:
                fd = os.open(candidate, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            status = os.fstat(fd)
            if status.st_ino == inode and same(status.st_dev):
                return fd
            os.close(fd)
        return None


def _same(one: bytes, other: bytes | memoryview) -> bool:
    """Whether bytes are the same; eight at a time, since there can be very many."""
    if len(one) % 8:
        return one == bytes(other)
    return bool(np.array_equal(np.frombuffer(one, np.uint64), np.frombuffer(other, np.uint64)))


def _nothing(start: int, length: int) -> Extent:
    return Extent(start=start, length=length, kind=OriginClass.UNKNOWN)
