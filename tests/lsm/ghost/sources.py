"""A program's memory as a source of enclave pages: each page of it comes from somewhere else."""

from __future__ import annotations

from collections.abc import Iterator

from swsgx.isa.address import PAGE_SIZE, TargetAddr
from swsgx.isa.layout import Layout
from swsgx.linux.provenance import Extent, Origin, OriginClass
from swsgx.linux.task import SourceVma
from tests.make.world import FakeMemory

__all__ = ["EXECUTABLE", "FIRST", "GOOD", "KINDS", "MODIFIED", "OTHER", "SIGNED", "SOURCES", "Sources"]

#: Where the pages are, how many, and how many of them, from the first on, are not on a noexec mount.
FIRST, SOURCES, EXECUTABLE = 0x2000_0000, 8, 6
_BUFFERS, _SLOTS = 0x1000_0000, 8

GOOD = Origin(kind=OriginClass.FILE, path="/opt/acme/lib/code.so", device=1, inode=10, mode=0o755)
MODIFIED = Origin(kind=OriginClass.FILEMOD, path="/opt/acme/lib/code.so", device=1, inode=10, mode=0o755)
OTHER = Origin(kind=OriginClass.FILE, path="/srv/joe/tool.so", device=1, inode=11, mode=0o755)
SIGNED = Origin(kind=OriginClass.FILE, path="/opt/acme/lib/code.sig", device=1, inode=12, mode=0o644)
_GONE = Origin(kind=OriginClass.FILE, path="/opt/acme/lib/code.so", device=1, inode=13, deleted=True)
_MEMFD = Origin(kind=OriginClass.MEMFD, path="/memfd:code", device=2, inode=14)
_ANON = Origin(kind=OriginClass.ANON)

#: What a page can come from; None: nobody knows.
KINDS: tuple[Origin | None, ...] = (GOOD, GOOD, GOOD, OTHER, MODIFIED, _GONE, _MEMFD, _ANON, None)


class Sources(FakeMemory):
    """Pages of several origins, one behind the other, and a few buffers for arguments.

    Attributes:
        origins: page by page.
        sigstruct: where buffers come from, the SIGSTRUCT among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.origins: list[Origin | None] = [GOOD] * SOURCES
        self.sigstruct: Origin | None = SIGNED
        self._slot = 0
        edge = FIRST + EXECUTABLE * PAGE_SIZE
        self.vmas = [
            SourceVma(_BUFFERS, _BUFFERS + 2 * _SLOTS * PAGE_SIZE),
            SourceVma(FIRST, edge),
            SourceVma(edge, FIRST + SOURCES * PAGE_SIZE, may_exec=False),
        ]
        for page in range(SOURCES):
            self.fill(page, GOOD, page + 1)

    def fill(self, page: int, origin: Origin | None, tag: int) -> None:
        """A page has other contents now, from elsewhere."""
        self.origins[page] = origin
        self.pages[FIRST + page * PAGE_SIZE] = bytearray(tag.to_bytes(8, "little") * (PAGE_SIZE // 8))

    def put(self, data: bytes | Layout) -> TargetAddr:
        """One of a few buffers, by turns: a call needs three at most."""
        self._slot = (self._slot + 1) % _SLOTS
        address = _BUFFERS + self._slot * 2 * PAGE_SIZE
        raw = bytes(data).ljust(PAGE_SIZE, b"\0")
        self.pages[address] = bytearray(raw)
        return TargetAddr(address)

    def unwritten(self, address: TargetAddr, size: int) -> None:
        """Nothing is known without a look."""

    def extents(self, address: TargetAddr, contents: memoryview, *, code: bool = True) -> Iterator[Extent]:
        size = len(contents)
        if not FIRST <= address < FIRST + SOURCES * PAGE_SIZE:
            yield Extent(size, self.sigstruct)
            return
        first = (address - FIRST) // PAGE_SIZE
        for origin, count in runs(self.origins[first : first + size // PAGE_SIZE]):
            yield Extent(count * PAGE_SIZE, origin)


def runs(origins: list[Origin | None]) -> list[tuple[Origin | None, int]]:
    """Equal ones in a row, as one and their number."""
    found: list[tuple[Origin | None, int]] = []
    for origin in origins:
        if found and found[-1][0] == origin:
            found[-1] = (origin, found[-1][1] + 1)
        else:
            found.append((origin, 1))
    return found
