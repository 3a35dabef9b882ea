"""Layouts: every byte is named once, values stay in their fields."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx import isa
from swsgx.isa.layout import Layout, octets, sub, u8, u16, u32, u64, zero

LAYOUTS = [v for v in vars(isa).values() if isinstance(v, type) and issubclass(v, Layout) and v is not Layout]


class Inner(Layout, size=4, align=1, source="test"):
    low = u16(0)
    high = u16(2)


class Sample(Layout, size=24, align=8, source="test"):
    a = u64(0, "a number")
    b = u8(8)
    c = zero(9, 3)
    d = octets(12, 4)
    e = sub(16, Inner)
    f = u32(20)


def test_a_gap_between_fields_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Gap\.second at 9 leaves a gap before it: expected offset 8"):

        class Gap(Layout, size=16, align=1, source="test"):
            first = u64(0)
            second = u8(9)


def test_overlapping_fields_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Overlap\.second at 4 overlaps"):

        class Overlap(Layout, size=12, align=1, source="test"):
            first = u64(0)
            second = u64(4)


@pytest.mark.parametrize("size", [7, 9])
def test_a_size_other_than_where_the_fields_end_is_refused(size: int) -> None:
    with pytest.raises(TypeError, match="the fields end at 8"):

        class Wrong(Layout, size=size, align=1, source="test"):
            first = u64(0)


def test_a_view_writes_into_the_buffer_that_it_was_given() -> None:
    buffer = bytearray(24)
    Sample(buffer).a = 0x0102
    assert buffer[:2] == b"\x02\x01"


def test_a_copy_does_not_write_into_what_it_was_made_from() -> None:
    buffer = bytearray(24)
    Sample.copy_of(buffer).a = 1
    assert not any(buffer)


def test_a_nested_structure_is_a_view_of_the_same_bytes() -> None:
    sample = Sample()
    sample.e.high = 0x1234
    assert bytes(sample)[18:20] == b"\x34\x12"


def test_a_nested_structure_can_be_assigned_as_a_whole() -> None:
    sample = Sample()
    sample.e = Inner.of(low=1, high=2)
    assert bytes(sample)[16:20] == b"\x01\x00\x02\x00"


def test_a_buffer_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="23 bytes given, the structure has 24"):
        Sample(bytes(23))


def test_a_longer_buffer_is_viewed_only_at_its_start() -> None:
    assert len(bytes(Sample(bytes(100)))) == 24


@pytest.mark.parametrize("size", [23, 25])
def test_a_copy_wants_exactly_the_size(size: int) -> None:
    with pytest.raises(ValueError, match="the structure has 24"):
        Sample.copy_of(bytes(size))


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_number_that_does_not_fit_its_field_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=r"a: .* does not fit in 8 bytes"):
        Sample().a = value


@pytest.mark.parametrize("size", [3, 5])
def test_octets_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"d: . bytes given, the field has 4"):
        Sample().d = bytes(size)


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="Sample has no field 'nothing'"):
        Sample.of(nothing=1)


@pytest.mark.parametrize("at", [9, 10, 11])
def test_the_first_reserved_byte_that_is_not_zero_is_named(at: int) -> None:
    buffer = bytearray(b"\xff" * 24)
    buffer[9:12] = bytes(3)
    buffer[at] = 1
    assert Sample(buffer).first_nonzero_reserved() == ("c", at)


def test_ordinary_fields_are_not_reserved() -> None:
    buffer = bytearray(b"\xff" * 24)
    buffer[9:12] = bytes(3)
    assert Sample(buffer).first_nonzero_reserved() is None


def test_equality_is_by_class_and_bytes() -> None:
    assert Sample.of(a=1) == Sample.of(a=1)
    assert Sample.of(a=1) != Sample.of(a=2)
    assert Inner() != bytes(4)


def test_a_structure_over_read_only_bytes_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="read-only"):
        Sample(bytes(24)).a = 1


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda c: c.__name__)
def test_numpy_sees_the_same_offsets(layout: type[Layout]) -> None:
    dtype = np.dtype(layout.record_spec())
    assert dtype.itemsize == layout.size_of
    offsets = {name: field[1] for name, field in dict(dtype.fields or {}).items()}
    assert offsets == {f.name: f.offset for f in layout.fields()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda c: c.__name__)
def test_every_structure_of_the_manual_names_its_source_and_explains_itself(layout: type[Layout]) -> None:
    assert layout.source.startswith(isa.SDM)
    assert layout.__doc__


@given(st.data())
def test_writing_a_field_changes_that_field_and_nothing_else(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(LAYOUTS))
    field = data.draw(st.sampled_from(layout.fields()))
    background = data.draw(st.sampled_from([0x00, 0xFF]))
    made = layout(bytearray([background]) * layout.size_of)
    new = data.draw(st.binary(min_size=field.size, max_size=field.size))
    if field.kind in ("octets", "reserved"):
        setattr(made, field.name, new)
        assert getattr(made, field.name) == new
    elif field.kind != "sub":
        setattr(made, field.name, int.from_bytes(new, "little"))
        assert getattr(made, field.name) == int.from_bytes(new, "little")
    else:
        new = bytes([background]) * field.size
    expected = bytearray([background]) * layout.size_of
    expected[field.offset : field.end] = new
    assert bytes(made) == expected
