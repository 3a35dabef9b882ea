"""``.sgxs`` streams, out: any load plan whose pages ascend, as the records of its measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from swsgx.image.errors import Format
from swsgx.image.plan import CHUNK_SIZE, LoadPlan, PageRun
from swsgx.image.records import (
    TAG_EADD,
    TAG_ECREATE,
    TAG_EEXTEND,
    TAG_UNMEASRD,
    EaddRecord,
    EcreateRecord,
    EextendRecord,
    page_record,
)
from swsgx.isa.address import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["write_sgxs"]

_CHUNKS = PAGE_SIZE // CHUNK_SIZE
_BULK = 128
_EMPTY_BULK = 8192


def write_sgxs(plan: LoadPlan, out: BinaryIO, progress: Callable[[int], object] | None = None) -> None:
    """Write ``plan`` as a canonical stream; contents that are not measured become UNMEASRD chunks.

    Args:
        plan: what to write; it has been validated.
        out: where to.
        progress: told of pages as they are done.

    Raises:
        ImageError: the plan's pages do not ascend, which no canonical stream can say.
        OSError: ``out`` cannot be written.
    """
    end = 0
    for run in plan.entries:
        if run.offset < end:
            raise Format(plan.file, ".sgxs", "canonical form").refuse(
                "pages ascend",
                expected=f"{run.name or 'the next run'} at {end:#x} or above",
                found=f"{run.offset:#x}",
                remedy="the order is measured, so it cannot be changed",
            )
        end = run.end
    out.write(EcreateRecord.of(tag=TAG_ECREATE, ssaframesize=plan.ssaframesize, size=plan.size).buffer)
    for run in plan.entries:
        if run.measured and run.chunks is None:
            _write_measured(run, out, progress)
        elif run.content is None and not run.chunks:
            _write_empty(run, out, progress)
        else:
            _write_chunks(run, out, progress)


def _write_measured(run: PageRun, out: BinaryIO, progress: Callable[[int], object] | None) -> None:
    """Whole pages, many at a time."""
    import numpy as np

    records = np.zeros(_BULK, dtype=page_record())
    records["tag"] = TAG_EADD
    records["flags"] = run.secinfo_flags
    records["chunk"]["tag"] = TAG_EEXTEND
    within = np.arange(_CHUNKS, dtype=np.uint64) * np.uint64(CHUNK_SIZE)
    for base, pages, content in run.pieces():
        data = np.frombuffer(content, dtype=np.uint8).reshape(pages, _CHUNKS, CHUNK_SIZE)
        for first in range(0, pages, _BULK):
            part = records[: min(_BULK, pages - first)]
            offsets = np.uint64(base) + np.arange(first, first + len(part), dtype=np.uint64) * np.uint64(
                PAGE_SIZE
            )
            part["offset"] = offsets
            part["chunk"]["offset"] = offsets[:, None] + within
            part["chunk"]["data"] = data[first : first + len(part)]
            out.write(part.tobytes())
            if progress is not None:
                progress(len(part))


def _write_chunks(run: PageRun, out: BinaryIO, progress: Callable[[int], object] | None) -> None:
    """Pages that are measured in part, or only loaded: each EADD with the chunks that matter."""
    order = run.chunks or ()
    for base, pages, content in run.pieces():
        for page in range(pages):
            offset = base + page * PAGE_SIZE
            out.write(EaddRecord.of(tag=TAG_EADD, offset=offset, flags=run.secinfo_flags).buffer)
            data = content[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
            rest = [n for n in range(_CHUNKS) if n not in order]
            for number in (*order, *rest):
                chunk = data[number * CHUNK_SIZE : (number + 1) * CHUNK_SIZE]
                tag = TAG_EEXTEND if number in order else TAG_UNMEASRD
                if tag == TAG_UNMEASRD and not any(chunk):
                    continue
                out.write(EextendRecord.of(tag=tag, offset=offset + number * CHUNK_SIZE).buffer)
                out.write(chunk)
        if progress is not None:
            progress(pages)


def _write_empty(run: PageRun, out: BinaryIO, progress: Callable[[int], object] | None) -> None:
    """Pages of which nothing is measured and nothing loaded: a record each, many at a time."""
    import numpy as np

    records = np.zeros(
        _EMPTY_BULK, dtype=[("tag", "S8"), ("offset", "<u8"), ("flags", "<u8"), ("zero", "V40")]
    )
    records["tag"] = TAG_EADD
    records["flags"] = run.secinfo_flags
    for first in range(0, run.count, _EMPTY_BULK):
        part = records[: min(_EMPTY_BULK, run.count - first)]
        pages = np.arange(first, first + len(part), dtype=np.uint64)
        part["offset"] = np.uint64(run.offset) + pages * np.uint64(PAGE_SIZE)
        out.write(part.tobytes())
        if progress is not None:
            progress(len(part))
