"""``.sgxs`` streams, out: any load plan whose pages ascend, as the records of its measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from swsgx.image.errors import Format
from swsgx.image.plan import CHUNK_SIZE, LoadPlan, PageRun
from swsgx.image.sgxs import (
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
from swsgx.isa.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["write_sgxs"]

_CHUNKS = PAGE_SIZE // CHUNK_SIZE
_BULK = 128


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
    """Pages that are not measured, or in part: each EADD with the chunks that matter."""
    if run.content is None and not run.chunks:
        for page in range(run.count):
            out.write(_eadd(run, page).buffer)
    else:
        order = run.chunks or ()
        for base, pages, content in run.pieces():
            for page in range(pages):
                out.write(_eadd(run, (base - run.offset) // PAGE_SIZE + page).buffer)
                data = content[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
                offset = base + page * PAGE_SIZE
                rest = [n for n in range(_CHUNKS) if n not in order]
                for number in (*order, *rest):
                    chunk = data[number * CHUNK_SIZE : (number + 1) * CHUNK_SIZE]
                    tag = TAG_EEXTEND if number in order else TAG_UNMEASRD
                    if tag == TAG_UNMEASRD and not any(chunk):
                        continue
                    out.write(EextendRecord.of(tag=tag, offset=offset + number * CHUNK_SIZE).buffer)
                    out.write(chunk)
    if progress is not None:
        progress(run.count)


def _eadd(run: PageRun, page: int) -> Layout:
    return EaddRecord.of(tag=TAG_EADD, offset=run.offset + page * PAGE_SIZE, flags=run.secinfo_flags)
