"""Measurements V0 to V6. Origin: see README.md beside this file."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["T0", "T6", "VECTORS", "C", "D", "Page", "Vector", "Z"]

#: A page of zeros, of i & 0xFF, and of the little-endian u64 0 to 511.
Z = bytes(4096)
C = bytes(range(256)) * 16
D = b"".join(i.to_bytes(8, "little") for i in range(512))


def _tcs(ossa: int, nssa: int, oentry: int, bases: int) -> bytes:
    fields = [(16, ossa, 8), (28, nssa, 4), (32, oentry, 8), (48, bases, 8), (56, bases, 8), (64, 0xFFF, 4)]
    page = bytearray(4096)
    for at, value, size in [*fields, (68, 0xFFF, 4)]:
        page[at : at + size] = value.to_bytes(size, "little")
    return bytes(page)


T0 = _tcs(ossa=0, nssa=1, oentry=0, bases=0)
T6 = _tcs(ossa=0x2000, nssa=2, oentry=0x10, bases=0x4000)

#: Which of a page's 16 chunks are measured.
ALL = tuple(range(16))


@dataclass(frozen=True)
class Page:
    """One EADD, and the EEXTENDs that follow it directly."""

    offset: int
    flags: int
    content: bytes
    chunks: tuple[int, ...]


@dataclass(frozen=True)
class Vector:
    """What is built, and what comes out."""

    name: str
    ssaframesize: int
    size: int
    pages: tuple[Page, ...]
    blocks: int
    mrenclave: str


_V1 = (Page(0, 0x203, Z, ALL), Page(0x1000, 0x100, T0, ALL))
_V6 = (
    Page(0, 0x205, C, ALL),
    Page(0x1000, 0x100, T6, ALL),
    Page(0x2000, 0x203, Z, ()),
    Page(0x3000, 0x203, Z, ()),
    Page(0x4000, 0x203, D, (0, 15)),
)

VECTORS = (
    Vector("V0", 1, 0x2000, (), 1, "9e197c8837c6d65632dbdd59cd7df4f1a25b68d8e4e5eb6ca3b20b05311fecb8"),
    Vector("V1", 1, 0x2000, _V1, 163, "48a1b2813a6cfbd953710569dd4aa5c748309b0cafadbf6ca323d26b0c14beb1"),
    Vector(
        "V2",
        1,
        0x2000,
        (Page(0, 0x203, Z, ()), _V1[1]),
        83,
        "cbd8acdad96c7ebc5d02c4271f907de34e5fc2cbeb1d98a4d24da4ab58ffc12b",
    ),
    Vector("V3", 2, 0x2000, _V1, 163, "bb6b0347405e6b7ecebbfe1f16a18c9fa574c3448ce53580a1878269abc14716"),
    Vector(
        "V4", 1, 0x2000, _V1[::-1], 163, "3c88024328a27deffa7506e9f0b32780ce98c8ba0c0f78698ae9b3a16156f54e"
    ),
    Vector("V5", 1, 0x4000, _V1, 163, "83d5af5275a3d9b9eb6dd46bb37f81d70c7d40a72468732b59771564467ad972"),
    Vector("V6", 1, 0x10000, _V6, 176, "3b82abd51f4a537d504fcaa9ccf6fcbccce6dec5ffc509dedc94d3de5b1137b1"),
)
