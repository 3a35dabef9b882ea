"""MRENCLAVE: the SHA-256 over what builds an enclave, in the order in which it is built.

Source: SDM, "MRENCLAVE" and the operation sections of ECREATE, EADD, EEXTEND and EINIT. Everything hashed
comes in blocks of 64 bytes: one for ECREATE, one for each EADD, five for each EEXTEND of 256 bytes. The final
padding is that of SHA-256 itself.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from swsgx.identity.pipeline import HashPipeline
from swsgx.isa.address import PAGE_SIZE, is_aligned
from swsgx.isa.layout import Buffer

__all__ = ["BLOCK_SIZE", "CHUNK_SIZE", "MEASURED_PAGE_SIZE", "Measurement"]

#: Bytes of one measurement block.
BLOCK_SIZE = 64
#: Bytes that one EEXTEND measures.
CHUNK_SIZE = 256
#: Bytes hashed for one fully measured page: its EADD and 16 EEXTENDs.
MEASURED_PAGE_SIZE = BLOCK_SIZE + 16 * (BLOCK_SIZE + CHUNK_SIZE)

_CHUNKS = PAGE_SIZE // CHUNK_SIZE
_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")
_TAG_ECREATE = b"ECREATE\0"
_TAG_EADD = b"EADD\0\0\0\0"
_TAG_EEXTEND = b"EEXTEND\0"

#: Pages put together before they are hashed: half a MiB of contents stays in the cache.
_RUN_PAGES = 128
#: Pages of an unmeasured run put together: their headers are 64 bytes each.
_RUN_HEADERS = 4096
#: Runs below this many pages are hashed at once; a thread would cost more than it saves.
_SMALL_RUN = 8

_EADD_RECORD = np.dtype([("tag", "S8"), ("offset", "<u8"), ("flags", "<u8"), ("zero", "V40")])
_EEXTEND_RECORD = np.dtype([("tag", "S8"), ("offset", "<u8"), ("zero", "V48"), ("data", f"V{CHUNK_SIZE}")])
_PAGE_RECORD = np.dtype([("eadd", _EADD_RECORD), ("eextend", _EEXTEND_RECORD, (_CHUNKS,))])

_CHUNK_STARTS = np.arange(_RUN_PAGES * _CHUNKS, dtype=np.uint64).reshape(_RUN_PAGES, _CHUNKS) * np.uint64(
    CHUNK_SIZE
)
_PAGE_STARTS = np.arange(_RUN_HEADERS, dtype=np.uint64) * np.uint64(PAGE_SIZE)

_Array = npt.NDArray[Any]


class _Run:
    """Room for the hash input of ``_RUN_PAGES`` measured pages; tags and zeros are there from the start."""

    def __init__(self) -> None:
        self._records: _Array = np.zeros(_RUN_PAGES, _PAGE_RECORD)
        self._bytes = self._records.view(np.uint8).data
        self._flags: _Array = self._records["eadd"]["flags"]
        self._page_offsets: _Array = self._records["eadd"]["offset"]
        self._chunk_offsets: _Array = self._records["eextend"]["offset"]
        self._data: _Array = self._records["eextend"]["data"]
        self._records["eadd"]["tag"] = _TAG_EADD
        self._records["eextend"]["tag"] = _TAG_EEXTEND

    def fill(self, offset: int, flags: int, chunks: _Array) -> memoryview:
        """Put the pages from ``offset`` on together; ``chunks`` has a row of 16 chunks for each."""
        count = len(chunks)
        start = np.uint64(offset)
        self._flags[:count] = flags
        np.add(_PAGE_STARTS[:count], start, out=self._page_offsets[:count])
        np.add(_CHUNK_STARTS[:count], start, out=self._chunk_offsets[:count])
        self._data[:count] = chunks
        return self._bytes[: count * MEASURED_PAGE_SIZE]


_pipeline: HashPipeline[_Run] = HashPipeline(_Run)


class Measurement:
    """A running measurement: what ECREATE starts and EINIT compares.

    Bulk runs are hashed in the background (:mod:`swsgx.identity.pipeline`); every other call waits for them,
    so order is kept. One measurement is for one thread at a time.

    Attributes:
        blocks: how many 64-byte blocks were measured, SECS.MRENCLAVE's update counter; 0 before ECREATE.

    Raises:
        ValueError: in every method, for a misaligned offset, a wrong size, or a leaf out of turn.
    """

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._ticket = 0
        self.blocks = 0

    def _update(self, data: Buffer, blocks: int) -> None:
        self._settle()
        self._sha.update(data)
        self.blocks += blocks

    def _settle(self) -> None:
        _pipeline.settle(self._ticket)
        self._ticket = 0

    def _page(self, leaf: str, offset: int, alignment: int) -> None:
        if self.blocks == 0:
            raise ValueError(f"{leaf}: a measurement starts with ECREATE")
        if not 0 <= offset < 1 << 64 or not is_aligned(offset, alignment):
            raise ValueError(f"{leaf}: offset {offset:#x} is not a multiple of {alignment} below 2^64")

    def _flags(self, flags: int) -> None:
        if not 0 <= flags < 1 << 64:
            raise ValueError(f"EADD: SECINFO.FLAGS {flags:#x} has 64 bits, unsigned")

    def ecreate(self, ssaframesize: int, size: int) -> None:
        """Start.

        Args:
            ssaframesize: SECS.SSAFRAMESIZE, pages.
            size: SECS.SIZE, bytes.
        """
        if self.blocks:
            raise ValueError("ECREATE: the measurement has been started before")
        try:
            block = _ECREATE.pack(_TAG_ECREATE, ssaframesize, size)
        except struct.error:
            raise ValueError(
                f"ECREATE: SSAFRAMESIZE {ssaframesize:#x} has 32 bits, SIZE {size:#x} has 64, both unsigned"
            ) from None
        self._update(block, 1)

    def eadd(self, offset: int, secinfo_flags: int) -> None:
        """Measure that a page is added.

        Args:
            offset: bytes from BASEADDR to the page.
            secinfo_flags: SECINFO.FLAGS as EADD works with it: R, W, X of a TCS are already cleared.
        """
        self._page("EADD", offset, PAGE_SIZE)
        self._flags(secinfo_flags)
        self._update(_EADD.pack(_TAG_EADD, offset, secinfo_flags), 1)

    def eextend(self, offset: int, chunk: Buffer) -> None:
        """Measure 256 bytes of a page.

        Args:
            offset: bytes from BASEADDR to the chunk.
            chunk: the 256 bytes that the EPC holds there.
        """
        self._page("EEXTEND", offset, CHUNK_SIZE)
        if memoryview(chunk).nbytes != CHUNK_SIZE:
            raise ValueError(f"EEXTEND: {memoryview(chunk).nbytes} bytes given, a chunk has {CHUNK_SIZE}")
        self._update(_EEXTEND.pack(_TAG_EEXTEND, offset) + bytes(chunk), 5)

    def eadd_run(
        self, first_offset: int, secinfo_flags: int, contents: Buffer | None, count: int, measured: bool
    ) -> None:
        """Add consecutive pages: the same as, page after page, one EADD and, if measured, 16 EEXTENDs.

        The contents are copied before it returns; hashing may go on in the background.

        Args:
            first_offset: bytes from BASEADDR to the first page.
            secinfo_flags: SECINFO.FLAGS of all of them, as for :meth:`eadd`.
            contents: ``count * 4096`` contiguous bytes, or 4096 bytes that every page has; not looked at,
                so it may be None, if not measured.
            count: pages; 0 does nothing.
            measured: whether the contents are measured.
        """
        self._page("EADD", first_offset, PAGE_SIZE)
        self._flags(secinfo_flags)
        if count < 0 or first_offset + count * PAGE_SIZE > 1 << 64:
            raise ValueError(f"EADD: {count} pages from offset {first_offset:#x} on do not fit below 2^64")
        if not measured:
            self._headers(first_offset, secinfo_flags, count)
            return
        given = 0 if contents is None else memoryview(contents).nbytes
        if contents is None or given not in (PAGE_SIZE, count * PAGE_SIZE):
            raise ValueError(f"EADD: {given} bytes given for {count} measured pages of {PAGE_SIZE}")
        chunks: _Array = np.frombuffer(contents, f"V{CHUNK_SIZE}").reshape(-1, _CHUNKS)
        if len(chunks) != count:
            chunks = np.broadcast_to(chunks, (count, _CHUNKS))
        for start in range(0, count, _RUN_PAGES):
            self._measured(
                first_offset + start * PAGE_SIZE, secinfo_flags, chunks[start : start + _RUN_PAGES]
            )

    def _measured(self, offset: int, flags: int, chunks: _Array) -> None:
        """At most ``_RUN_PAGES`` measured pages."""
        block = _pipeline.take()
        try:
            data = block.fill(offset, flags, chunks)
            if len(chunks) < _SMALL_RUN:
                self._settle()
                self._sha.update(data)
        except BaseException:
            _pipeline.give_back(block)
            raise
        if len(chunks) < _SMALL_RUN:
            _pipeline.give_back(block)
        else:
            self._ticket = _pipeline.submit(self._sha, data, block)
        self.blocks += len(chunks) * (1 + 5 * _CHUNKS)

    def _headers(self, offset: int, flags: int, count: int) -> None:
        """The EADD blocks of an unmeasured run."""
        self._settle()
        records: _Array = np.zeros(min(count, _RUN_HEADERS), _EADD_RECORD)
        records["tag"] = _TAG_EADD
        records["flags"] = flags
        for start in range(0, count, _RUN_HEADERS):
            part = records[: count - start]
            np.add(_PAGE_STARTS[: len(part)], np.uint64(offset + start * PAGE_SIZE), out=part["offset"])
            self._sha.update(part.view(np.uint8).data)
        self.blocks += count

    def digest(self) -> bytes:
        """MRENCLAVE as EINIT would see it now: 32 bytes. The measurement can go on."""
        self._settle()
        return self._sha.digest()

    def copy(self) -> Measurement:
        """An independent measurement that has come as far as this one."""
        self._settle()
        made = Measurement()
        made._sha = self._sha.copy()
        made.blocks = self.blocks
        return made
