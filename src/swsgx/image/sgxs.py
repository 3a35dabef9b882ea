"""``.sgxs`` streams, in: the records of the measurement themselves, back to back, 64 bytes each plus payload.

A stream is looked at in two steps. :func:`scan` walks over the records: a stream that is not made of whole
records, or has no meaning, is an :class:`~swsgx.image.errors.ImageError`. Broken rules of the canonical form
are collected, since such a stream still has a well-defined MRENCLAVE; :meth:`Stream.plan` wants them all
kept. Pages that are added alike and measured whole are found in bulk, not one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from swsgx.image.errors import Format, ImageError
from swsgx.image.plan import CHUNK_SIZE, MAX_SIZE, MIN_SIZE, LoadPlan, PageRun
from swsgx.image.records import (
    CHUNK_RECORD_SIZE,
    CHUNKS,
    HEADER_SIZE,
    PAGE_RECORD_SIZE,
    SOURCE,
    TAG_EADD,
    TAG_ECREATE,
    TAG_EEXTEND,
    TAG_UNMEASRD,
    TAG_UNSIZED,
    EaddRecord,
    EcreateRecord,
    EextendRecord,
    pages_alike,
)
from swsgx.isa.address import PAGE_SIZE, Offset
from swsgx.isa.flags import PERM_MASK, SECINFO_PT_SHIFT, PageType, SecinfoFlags, page_type_of
from swsgx.isa.layout import Layout

__all__ = ["Stream", "fix_size", "is_sgxs", "scan"]

#: Pages looked at in one step of the bulk path.
_BULK = 1024
_FIRST_BULK = 4
_ALL = tuple(range(CHUNKS))
_HASH_STEP = 4 << 20


@dataclass(slots=True)
class _Page:
    """The page whose chunks are being read."""

    at: int
    offset: int
    flags: int
    measured: list[int] = field(default_factory=list)
    seen: int = 0
    content: bytearray | None = None

    def same_shape(self) -> tuple[int, ...] | None:
        """What :attr:`PageRun.chunks` says of it."""
        return None if not self.measured or tuple(self.measured) == _ALL else tuple(self.measured)


@dataclass(slots=True)
class Stream:
    """A stream that consists of whole records in a meaningful order.

    Attributes:
        file: its name, for messages.
        data: its bytes.
        sized: False if it starts with UNSIZED.
        ssaframesize: pages.
        size: bytes of the enclave; where the size goes, if not :attr:`sized`.
        runs: its pages. Complete only if :attr:`violations` is empty.
        violations: rules of the format that do not hold, in the order of the file (at most 100 are kept).
        measured: ``(start, end)`` of the parts of the file that go into MRENCLAVE.
        pages, measured_chunks, unmeasured_chunks: how many of each.
    """

    file: str
    data: memoryview
    sized: bool = True
    ssaframesize: int = 0
    size: int = 0
    runs: list[PageRun] = field(default_factory=list)
    violations: list[ImageError] = field(default_factory=list)
    measured: list[tuple[int, int]] = field(default_factory=list)
    pages: int = 0
    measured_chunks: int = 0
    unmeasured_chunks: int = 0

    @property
    def form(self) -> Format:
        """Makes the errors."""
        return Format(self.file, ".sgxs", SOURCE)

    def digest(self, progress: Callable[[int], object] | None = None) -> bytes:
        """MRENCLAVE, 32 bytes: the SHA-256 of the records that are measured.

        Args:
            progress: told of bytes as they are done.

        Raises:
            ImageError: the stream has no size yet.
        """
        self._check_sized()
        digest = hashlib.sha256()
        for start, end in self.measured:
            for at in range(start, end, _HASH_STEP):
                part = self.data[at : min(end, at + _HASH_STEP)]
                digest.update(part)
                if progress is not None:
                    progress(len(part))
        return digest.digest()

    def plan(self) -> LoadPlan:
        """The steps of the stream.

        Raises:
            ImageError: not sized yet, or not canonical.
        """
        self._check_sized()
        if self.violations:
            # A new one: raising the kept one would tie the stream, its bytes and the traceback into a cycle.
            first = self.violations[0]
            raise ImageError(first.file, first.reason, first.offset)
        tcs = tuple(
            Offset(run.offset + i * PAGE_SIZE)
            for run in self.runs
            if run.page_type == PageType.TCS
            for i in range(run.count)
        )
        plan = LoadPlan(self.file, "sgxs", self.size, self.ssaframesize, tuple(self.runs), tcs)
        plan.validate()
        return plan

    def _check_sized(self) -> None:
        if not self.sized:
            raise self.form.refuse(
                "the stream says how large the enclave is",
                expected="ECREATE",
                found="UNSIZED",
                offset=0,
                remedy="give it its size: swsgx convert --fix-size",
            )


def is_sgxs(data: memoryview) -> bool:
    """Whether the bytes start like a stream, canonical or not."""
    return bytes(data[:8]) in (TAG_ECREATE, TAG_UNSIZED, TAG_EADD, TAG_EEXTEND, TAG_UNMEASRD)


def scan(file: str, data: memoryview) -> Stream:
    """Read the records of a stream.

    Args:
        file: its name, for messages.
        data: all its bytes; the stream keeps them.

    Raises:
        ImageError: empty, cut off inside a record, an unknown tag, a second ECREATE, or none at the start.
    """
    return _Scanner(Stream(file, data)).run()


class _Scanner:
    """One walk over a stream: the position, the page that is open, and the run that it may be added to."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.form = stream.form
        self.data = stream.data
        self.page: _Page | None = None
        self.last_offset = -1
        self.pending: list[_Page] = []
        self.step = _FIRST_BULK

    def run(self) -> Stream:
        at = self._first()
        end = len(self.data)
        while at < end:
            done = self._bulk(at)
            at = done if done > at else self._one(at)
        self._close_page()
        self._flush()
        return self.stream

    def _violation(self, rule: str, *, expected: str, found: str, offset: int) -> None:
        if len(self.stream.violations) < 100:
            self.stream.violations.append(
                self.form.refuse(rule, expected=expected, found=found, offset=offset)
            )

    def _measure(self, start: int, end: int) -> None:
        ranges = self.stream.measured
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))

    def _header(self, at: int, size: int = HEADER_SIZE) -> memoryview:
        part = self.data[at : at + size]
        if len(part) < size:
            raise self.form.refuse(
                "the stream ends at the end of a record",
                expected=f"{size} bytes" if len(part) >= 8 else "8 bytes of tag",
                found=f"{len(part)} bytes",
                offset=at,
            )
        return part

    def _first(self) -> int:
        head = EcreateRecord(self._header(0))
        if head.tag not in (TAG_ECREATE, TAG_UNSIZED):
            raise self.form.refuse(
                "the first record is ECREATE", expected="ECREATE or UNSIZED", found=_shown(head.tag), offset=0
            )
        stream = self.stream
        stream.sized = head.tag == TAG_ECREATE
        stream.ssaframesize, stream.size = head.ssaframesize, head.size
        self._reserved(head, 0)
        if stream.sized and (head.size & (head.size - 1) or not MIN_SIZE <= head.size < MAX_SIZE):
            self._violation(
                "the enclave's size is a power of two",
                expected=f"a power of two from {MIN_SIZE:#x} to {MAX_SIZE >> 1:#x}",
                found=f"{head.size:#x}",
                offset=12,
            )
        if head.ssaframesize == 0:
            self._violation("an SSA frame has at least one page", expected="1 or more", found="0", offset=8)
        self._measure(0, HEADER_SIZE)
        return HEADER_SIZE

    def _reserved(self, head: Layout, at: int) -> None:
        bad = head.first_nonzero_reserved()
        if bad is not None:
            self._violation(
                "the reserved bytes of a record are zero: no loader can pass them on",
                expected="0",
                found=f"{head.buffer[bad[1]]:#x}",
                offset=at + bad[1],
            )

    def _one(self, at: int) -> int:
        """Read one record; returns where the next one starts."""
        tag = bytes(self._header(at, 8))
        if tag == TAG_EADD:
            self._eadd(EaddRecord(self._header(at)), at)
            return at + HEADER_SIZE
        if tag in (TAG_EEXTEND, TAG_UNMEASRD):
            record = self._header(at, CHUNK_RECORD_SIZE)
            self._chunk(EextendRecord(record), record[HEADER_SIZE:], at, tag == TAG_EEXTEND)
            return at + CHUNK_RECORD_SIZE
        if tag in (TAG_ECREATE, TAG_UNSIZED):
            raise self.form.refuse(
                "only the first record is ECREATE",
                expected="EADD, EEXTEND or UNMEASRD",
                found=_shown(tag),
                offset=at,
            )
        raise self.form.refuse(
            "each record starts with a known tag",
            expected="EADD, EEXTEND or UNMEASRD",
            found=_shown(tag),
            offset=at,
        )

    def _eadd(self, head: EaddRecord, at: int) -> None:
        self._close_page()
        self._measure(at, at + HEADER_SIZE)
        self._reserved(head, at)
        self._check_page(head.offset, head.flags, at)
        self.page = _Page(at, head.offset, head.flags)
        self.last_offset = head.offset

    def _check_page(self, offset: int, flags: int, at: int) -> None:
        if offset % PAGE_SIZE:
            self._violation(
                "a page's offset is page aligned",
                expected="a multiple of 0x1000",
                found=f"{offset:#x}",
                offset=at + 8,
            )
        if offset <= self.last_offset:
            self._violation(
                "pages ascend",
                expected=f"an offset above {self.last_offset:#x}",
                found=f"{offset:#x}",
                offset=at + 8,
            )
        if self.stream.sized and offset >= self.stream.size:
            self._violation(
                "a page lies inside the enclave",
                expected=f"an offset below {self.stream.size:#x}",
                found=f"{offset:#x}",
                offset=at + 8,
            )
        kind = page_type_of(flags)
        if kind not in (PageType.REG, PageType.TCS) or flags & ~(PERM_MASK | 0xFF << SECINFO_PT_SHIFT):
            self._violation(
                f"page {offset:#x} has a SECINFO that EADD takes",
                expected="page type TCS (1) or REG (2), permissions in bits 0 to 2, no other bit",
                found=f"flags {flags:#x}",
                offset=at + 16,
            )
        elif kind == PageType.TCS and flags & PERM_MASK:
            self._violation(
                f"page {offset:#x} is a TCS without permissions",
                expected="R, W and X clear",
                found=f"flags {flags:#x}",
                offset=at + 16,
            )
        elif flags & SecinfoFlags.W and not flags & SecinfoFlags.R:
            self._violation(
                f"page {offset:#x} is not writable without being readable",
                expected="R with W",
                found=f"flags {flags:#x}",
                offset=at + 16,
            )

    def _chunk(self, head: EextendRecord, payload: memoryview, at: int, measured: bool) -> None:
        if measured:
            self._measure(at, at + CHUNK_RECORD_SIZE)
            self.stream.measured_chunks += 1
        else:
            self.stream.unmeasured_chunks += 1
        page = self.page
        if page is None:
            raise self.form.refuse(
                "a chunk comes after the EADD of its page",
                expected="EADD",
                found="EEXTEND" if measured else "UNMEASRD",
                offset=at,
            )
        self._reserved(head, at)
        if head.offset % CHUNK_SIZE:
            self._violation(
                "a chunk's offset is a multiple of 256",
                expected="bits 0 to 7 clear",
                found=f"{head.offset:#x}",
                offset=at + 8,
            )
            return
        number = (head.offset - page.offset) // CHUNK_SIZE
        if not 0 <= number < CHUNKS or page.offset % PAGE_SIZE:
            self._violation(
                f"a chunk lies in the page of the EADD before it, {page.offset:#x}",
                expected=f"{page.offset:#x} to {page.offset + PAGE_SIZE - CHUNK_SIZE:#x}",
                found=f"{head.offset:#x}",
                offset=at + 8,
            )
            return
        if page.seen >> number & 1:
            self._violation(
                f"a chunk comes once; page {page.offset:#x} has chunk {number} twice",
                expected="another chunk",
                found=f"{head.offset:#x}",
                offset=at + 8,
            )
            return
        page.seen |= 1 << number
        if measured:
            page.measured.append(number)
        if page.content is None:
            page.content = bytearray(PAGE_SIZE)
        page.content[number * CHUNK_SIZE : (number + 1) * CHUNK_SIZE] = payload

    def _close_page(self) -> None:
        """The open page is complete: put it to those before it that are alike and adjacent, or start anew."""
        page, self.page = self.page, None
        if page is None:
            return
        self.stream.pages += 1
        if self.pending:
            first, last = self.pending[0], self.pending[-1]
            alike = (
                page.offset == last.offset + PAGE_SIZE
                and page.flags == first.flags
                and page.measured == first.measured
                and (page.content is None) == (first.content is None)
            )
            if not alike:
                self._flush()
        self.pending.append(page)

    def _flush(self) -> None:
        if not self.pending:
            return
        first = self.pending[0]
        content = None
        if first.content is not None:
            content = memoryview(b"".join(p.content for p in self.pending if p.content is not None))
        chunks = first.same_shape()
        measured = tuple(first.measured) == _ALL
        self._add(PageRun(Offset(first.offset), len(self.pending), first.flags, measured, content, chunks))
        self.pending = []

    def _add(self, run: PageRun) -> None:
        """Append a run. Empty ones grow; one with contents stays a run of its own, since those are not copied."""
        last = self.stream.runs[-1] if self.stream.runs else None
        if (
            last is not None
            and last.content is None
            and run.content is None
            and last.end == run.offset
            and (last.secinfo_flags, last.measured, last.chunks)
            == (run.secinfo_flags, run.measured, run.chunks)
        ):
            run = PageRun(
                last.offset, last.count + run.count, run.secinfo_flags, run.measured, None, run.chunks
            )
            self.stream.runs[-1] = run
        else:
            self.stream.runs.append(run)

    def _bulk(self, at: int) -> int:
        """Take as many adjacent pages of one kind as follow; returns the place behind them (``at`` if none)."""
        if bytes(self.data[at : at + 8]) != TAG_EADD or len(self.data) - at < 2 * HEADER_SIZE:
            return at
        following = bytes(self.data[at + HEADER_SIZE : at + HEADER_SIZE + 8])
        if following == TAG_EEXTEND:
            stride = PAGE_RECORD_SIZE
        elif following == TAG_EADD:
            stride = HEADER_SIZE
        else:
            return at
        count = min(self.step, (len(self.data) - at) // stride)
        head = EaddRecord(self.data[at : at + HEADER_SIZE])
        offset, flags = head.offset, head.flags
        if count < 2 or offset + count * PAGE_SIZE > MAX_SIZE or head.first_nonzero_reserved() is not None:
            return at
        taken, content = pages_alike(self.data[at : at + count * stride], stride, offset, flags)
        # Look further only where it pays: a stream of pages that all differ stays linear.
        self.step = min(2 * self.step, _BULK) if taken == count else _FIRST_BULK
        after = at + taken * stride
        if after < len(self.data) and bytes(self.data[after : after + 8]) != TAG_EADD:
            taken -= 1  # more chunks of the last page may follow
        last = offset + (taken - 1) * PAGE_SIZE
        if taken < 1 or (self.stream.sized and offset < self.stream.size <= last):
            return at
        self._close_page()
        self._flush()
        self._check_page(offset, flags, at)
        end = at + taken * stride
        self._measure(at, end)
        self.last_offset = last
        self.stream.pages += taken
        if stride == PAGE_RECORD_SIZE:
            self.stream.measured_chunks += taken * CHUNKS
            view = content[:taken].reshape(-1).data
            self._add(PageRun(Offset(offset), taken, flags, True, view))
        else:
            self._add(PageRun(Offset(offset), taken, flags, False, None))
        return end


def _shown(tag: bytes) -> str:
    text = tag.rstrip(b"\0")
    return text.decode("ascii") if text.isalnum() else tag.hex(" ")


def fix_size(file: str, data: memoryview) -> bytes:
    """Give an UNSIZED stream its size: the power of two that covers its last page.

    The size also goes where the stream's first record says: into measured data, as a u64.

    Args:
        file: its name, for messages.
        data: all its bytes; not changed.

    Returns:
        the sized stream.

    Raises:
        ImageError: already sized, not canonical, or no measured data at the place for the size.
    """
    stream = scan(file, data)
    form = stream.form
    if stream.sized:
        raise form.refuse("the stream has no size yet", expected="UNSIZED", found="ECREATE", offset=0)
    if stream.violations:
        raise stream.violations[0]
    if not stream.runs:
        raise form.refuse("the stream has a page", expected="EADD", found="none")
    end = stream.runs[-1].end
    size = max(MIN_SIZE, 1 << (end - 1).bit_length())
    target = stream.size
    made = bytearray(data)
    head = EcreateRecord(made)
    head.tag = TAG_ECREATE
    head.size = size
    place = None if target % 8 else _measured_place(stream, target)
    if place is None:
        raise form.refuse(
            "the size goes into measured data, at a multiple of 8",
            expected="an address covered by an EEXTEND",
            found=f"{target:#x}",
            offset=12,
        )
    made[place : place + 8] = size.to_bytes(8, "little")
    return bytes(made)


def _measured_place(stream: Stream, target: int) -> int | None:
    """Offset in the file of the measured byte at enclave offset ``target``."""
    chunk = TAG_EEXTEND + (target - target % CHUNK_SIZE).to_bytes(8, "little") + bytes(48)
    for start, end in stream.measured:
        at = start
        while at < end:
            tag = bytes(stream.data[at : at + 8])
            if tag == TAG_EEXTEND:
                if bytes(stream.data[at : at + HEADER_SIZE]) == chunk:
                    return at + HEADER_SIZE + target % CHUNK_SIZE
                at += CHUNK_RECORD_SIZE
            else:
                at += HEADER_SIZE
    return None
