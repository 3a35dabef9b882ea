"""Sizes in the state save area, and which XFRM a CPU takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.isa import (
    INTEL_COMPONENTS,
    Exitinfo,
    ExitType,
    Miscselect,
    XsaveComponent,
    exinfo_offset,
    gprsgx_offset,
    misc_size,
    ssa_frame_pages,
    xfrm_violation,
    xsave_size,
)

TABLE = [
    (0x3, 576, 1),
    (0x7, 832, 1),
    (0x1F, 1088, 1),
    (0xE7, 2688, 1),
    (0x207, 2696, 1),
    (0x2E7, 2696, 1),
    (0x602E7, 11008, 3),
]


@pytest.mark.parametrize(("xfrm", "size", "pages"), TABLE, ids=lambda v: hex(v))
def test_the_xsave_area_has_the_size_that_the_manual_computes(xfrm: int, size: int, pages: int) -> None:
    assert xsave_size(xfrm) == size
    assert ssa_frame_pages(xfrm, 0) == pages
    assert ssa_frame_pages(xfrm, Miscselect.EXINFO) == pages


def test_a_component_below_the_end_of_the_last_one_does_not_move_it() -> None:
    """The manual's loop keeps the furthest component; one that lies lower adds nothing."""
    swapped = (XsaveComponent(2, "high", 1000, 100), XsaveComponent(3, "low", 600, 100))
    assert xsave_size(0xF, swapped) == 1100


def test_a_component_that_the_cpu_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="bit 9 is no state component"):
        xsave_size(0x203, INTEL_COMPONENTS[:3])


def test_one_more_byte_can_need_one_more_page() -> None:
    fits = (XsaveComponent(2, "fits", 576, 4096 - 184 - 16 - 576),)
    over = (XsaveComponent(2, "over", 576, 4096 - 184 - 16 - 576 + 1),)
    assert ssa_frame_pages(7, Miscselect.EXINFO, fits) == 1
    assert ssa_frame_pages(7, Miscselect.EXINFO, over) == 2
    assert ssa_frame_pages(7, 0, over) == 1


def test_gprsgx_ends_the_frame_and_exinfo_stands_before_it() -> None:
    assert gprsgx_offset(1) == 4096 - 184
    assert gprsgx_offset(3) == 3 * 4096 - 184
    assert exinfo_offset(1) == 4096 - 184 - 16


def test_only_exinfo_takes_room() -> None:
    assert (misc_size(0), misc_size(Miscselect.EXINFO)) == (0, 16)


@pytest.mark.parametrize("xfrm", [xfrm for xfrm, _, _ in TABLE])
def test_what_the_table_lists_is_a_legal_xfrm(xfrm: int) -> None:
    assert xfrm_violation(xfrm, 0x602FF) is None


@pytest.mark.parametrize(
    ("xfrm", "supported", "rule"),
    [
        (0x0, 0x602FF, "bits 1:0"),
        (0x1, 0x602FF, "bits 1:0"),
        (0x2, 0x602FF, "bits 1:0"),
        (0x3 | 1 << 63, 1 << 63 | 3, "bit 63"),
        (0x203, 0x7, "subset"),
        (0x103, 0x602FF, "subset"),
        (0xB, 0x602FF, "0x18 are set together"),
        (0x13, 0x602FF, "0x18 are set together"),
        (0x27, 0x602FF, "0xe0 are set together"),
        (0x67, 0x602FF, "0xe0 are set together"),
        (0xC7, 0x602FF, "0xe0 are set together"),
        (0xE3, 0x602FF, "comes with AVX"),
        (0x20003, 0x602FF, "0x60000 are set together"),
        (0x40003, 0x602FF, "0x60000 are set together"),
    ],
)
def test_an_xfrm_that_xsetbv_would_refuse_is_refused_with_its_rule(
    xfrm: int, supported: int, rule: str
) -> None:
    assert rule in str(xfrm_violation(xfrm, supported))


@given(st.integers(0, 255), st.integers(0, 7), st.booleans())
def test_exitinfo_survives_packing(vector: int, exit_type: int, valid: bool) -> None:
    info = Exitinfo(vector, exit_type, valid)
    assert Exitinfo.unpack(int(info)) == info


def test_exitinfo_is_laid_out_as_the_manual_says() -> None:
    assert int(Exitinfo(14, ExitType.HARDWARE, True)) == 0x8000_030E
    assert int(Exitinfo(3, ExitType.SOFTWARE, True)) == 0x8000_0603
    assert int(Exitinfo()) == 0


def test_reserved_bits_of_exitinfo_are_dropped() -> None:
    assert int(Exitinfo.unpack(0xFFFF_FFFF)) == 0x8000_07FF
