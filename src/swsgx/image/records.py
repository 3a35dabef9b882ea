"""The records of a ``.sgxs`` stream: how they look, one by one and many at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from swsgx.image.plan import CHUNK_SIZE
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.layout import Layout, octets, u32, u64, zero

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CHUNKS",
    "CHUNK_RECORD_SIZE",
    "HEADER_SIZE",
    "PAGE_RECORD_SIZE",
    "SOURCE",
    "TAG_EADD",
    "TAG_ECREATE",
    "TAG_EEXTEND",
    "TAG_UNMEASRD",
    "TAG_UNSIZED",
    "EaddRecord",
    "EcreateRecord",
    "EextendRecord",
    "page_record",
    "pages_alike",
]

#: Where the format is described.
SOURCE = "Fortanix sgxs, crate documentation ('The SGX stream format')"

TAG_ECREATE = b"ECREATE\0"
TAG_EADD = b"EADD\0\0\0\0"
TAG_EEXTEND = b"EEXTEND\0"
TAG_UNMEASRD = b"UNMEASRD"
TAG_UNSIZED = b"UNSIZED\0"

#: Bytes of a record without its payload.
HEADER_SIZE = 64
#: Chunks in a page.
CHUNKS = PAGE_SIZE // CHUNK_SIZE
#: Bytes of an EEXTEND or UNMEASRD with its payload.
CHUNK_RECORD_SIZE = HEADER_SIZE + CHUNK_SIZE
#: Bytes of a page that is measured whole: one EADD and 16 EEXTEND records.
PAGE_RECORD_SIZE = HEADER_SIZE + CHUNKS * CHUNK_RECORD_SIZE


class EcreateRecord(Layout, size=64, align=1, source=SOURCE):
    """``ECREATE`` and ``UNSIZED``. In the latter, SIZE is where the final size is to be stored."""

    tag = octets(0, 8)
    ssaframesize = u32(8, "pages in an SSA frame")
    size = u64(12, "bytes of the enclave's range; not aligned")
    reserved_20 = zero(20, 44)


class EaddRecord(Layout, size=64, align=1, source=SOURCE):
    """``EADD``: one page."""

    tag = octets(0, 8)
    offset = u64(8, "bytes from the enclave's base, page aligned")
    flags = u64(16, "SECINFO.FLAGS")
    reserved_24 = zero(24, 40)


class EextendRecord(Layout, size=64, align=1, source=SOURCE):
    """``EEXTEND`` and ``UNMEASRD``: a chunk of 256 bytes, which follow."""

    tag = octets(0, 8)
    offset = u64(8, "of the chunk, in bytes from the enclave's base, a multiple of 256")
    reserved_16 = zero(16, 48)


@lru_cache(maxsize=1)
def page_record() -> Any:
    """The numpy type of a page that is measured whole: its EADD, and its 16 chunks with their headers."""
    import numpy as np

    chunk = np.dtype(
        [("tag", "S8"), ("offset", "<u8"), ("reserved", "u1", (48,)), ("data", "u1", (CHUNK_SIZE,))]
    )
    return np.dtype(
        [
            ("tag", "S8"),
            ("offset", "<u8"),
            ("flags", "<u8"),
            ("reserved", "u1", (40,)),
            ("chunk", chunk, (CHUNKS,)),
        ]
    )


def pages_alike(data: memoryview, stride: int, offset: int, flags: int) -> tuple[int, NDArray[np.uint8]]:
    """How many records from the start on are the pages at ``offset`` and on; and their contents."""
    import numpy as np

    raw = np.frombuffer(data, dtype=np.uint8).reshape(-1, stride)
    count = len(raw)
    wanted = np.zeros((count, HEADER_SIZE), dtype=np.uint8)
    wanted[:, :8] = np.frombuffer(TAG_EADD, dtype=np.uint8)
    offsets = np.uint64(offset) + np.arange(count, dtype=np.uint64) * np.uint64(PAGE_SIZE)
    wanted[:, 8:16] = offsets.astype("<u8").view(np.uint8).reshape(-1, 8)
    wanted[:, 16:24] = np.frombuffer(flags.to_bytes(8, "little"), dtype=np.uint8)
    good = (raw[:, :HEADER_SIZE] == wanted).all(axis=1)
    if stride == HEADER_SIZE:
        return _leading(good), raw
    chunks = raw[:, HEADER_SIZE:].reshape(count, CHUNKS, CHUNK_RECORD_SIZE)
    heads = np.zeros((count, CHUNKS, HEADER_SIZE), dtype=np.uint8)
    heads[:, :, :8] = np.frombuffer(TAG_EEXTEND, dtype=np.uint8)
    each = offsets[:, None] + np.arange(CHUNKS, dtype=np.uint64) * np.uint64(CHUNK_SIZE)
    heads[:, :, 8:16] = each.astype("<u8").view(np.uint8).reshape(count, CHUNKS, 8)
    good &= (chunks[:, :, :HEADER_SIZE] == heads).all(axis=(1, 2))
    taken = _leading(good)
    return taken, np.ascontiguousarray(chunks[:taken, :, HEADER_SIZE:]).reshape(taken, PAGE_SIZE)


def _leading(good: NDArray[np.bool_]) -> int:
    """How many elements are true before the first that is not."""
    return len(good) if good.all() else int(good.argmin())
