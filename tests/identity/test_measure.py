"""MRENCLAVE: the vectors, and that runs equal pages."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swsgx.identity import measure
from swsgx.identity.measure import MEASURED_PAGE_SIZE, Measurement
from tests.vectors.mrenclave import T0, VECTORS, C, D, Vector

RUN = 128  # pages that are hashed in one go
HEADERS = 4096  # the same for unmeasured ones


def started() -> Measurement:
    made = Measurement()
    made.ecreate(1, 1 << 30)
    return made


def page_by_page(
    into: Measurement, offset: int, flags: int, contents: bytes | None, count: int, measured: bool
) -> None:
    """The reference: one leaf after the other."""
    for page in range(count):
        at = offset + 4096 * page
        into.eadd(at, flags)
        if measured and contents is not None:
            for chunk in range(0, 4096, 256):
                into.eextend(at + chunk, contents[4096 * page + chunk :][:256])


def contents_of(count: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(4096 * count)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_a_vector_comes_out_leaf_by_leaf(vector: Vector) -> None:
    m = Measurement()
    m.ecreate(vector.ssaframesize, vector.size)
    for page in vector.pages:
        m.eadd(page.offset, page.flags)
        for chunk in page.chunks:
            m.eextend(page.offset + 256 * chunk, page.content[256 * chunk : 256 * (chunk + 1)])
    assert (m.blocks, m.digest().hex()) == (vector.blocks, vector.mrenclave)


@pytest.mark.parametrize("vector", VECTORS[:-1], ids=lambda v: v.name)
def test_a_vector_of_whole_pages_comes_out_in_runs(vector: Vector) -> None:
    m = Measurement()
    m.ecreate(vector.ssaframesize, vector.size)
    for page in vector.pages:
        m.eadd_run(page.offset, page.flags, page.content, 1, bool(page.chunks))
    assert (m.blocks, m.digest().hex()) == (vector.blocks, vector.mrenclave)


def test_the_pages_of_the_vectors_are_the_published_ones() -> None:
    digests = [hashlib.sha256(page).hexdigest() for page in (T0, C, D)]
    assert digests == [
        "a3180fd4ad2fedf8e44049ddb3738a020cb4f7f401fbdb1afbd8c35d213c6f13",
        "c8f5d0341d54d951a71b136e6e2afcb14d11ed8489a7ae126a8fee0df6ecf193",
        "5738153ec97595b1c1e4dc027f7b7fb4534f19ed2ce9f9ee712e6d34a384cde7",
    ]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, RUN - 1, RUN, RUN + 1, 4 * RUN, 9 * RUN + 3])
def test_a_measured_run_equals_its_pages(count: int) -> None:
    run, pages = started(), started()
    contents = contents_of(count)
    run.eadd_run(0x5000, 0x203, contents, count, True)
    page_by_page(pages, 0x5000, 0x203, contents, count, True)
    assert (run.blocks, run.digest()) == (pages.blocks, pages.digest())


@pytest.mark.parametrize("count", [0, 1, 2, HEADERS - 1, HEADERS, HEADERS + 1, 2 * HEADERS + 5])
def test_an_unmeasured_run_equals_its_pages_and_needs_no_contents(count: int) -> None:
    run, pages = started(), started()
    run.eadd_run(0x5000, 0x203, None, count, False)
    page_by_page(pages, 0x5000, 0x203, None, count, False)
    assert (run.blocks, run.digest()) == (pages.blocks, pages.digest())


@pytest.mark.parametrize("count", [1, 2, 8, RUN + 1, 5 * RUN])
def test_one_page_given_for_all_equals_that_page_repeated(count: int) -> None:
    once, repeated = started(), started()
    once.eadd_run(0, 0x203, D, count, True)
    repeated.eadd_run(0, 0x203, D * count, count, True)
    assert once.digest() == repeated.digest()


runs = st.lists(
    st.tuples(
        st.integers(0, (1 << 51) - 1),
        st.integers(0, (1 << 64) - 1),
        st.sampled_from([1, 2, 7, 8, 9, RUN, RUN + 1, 3 * RUN]),
        st.booleans(),
        st.integers(0, 255),
    ),
    max_size=6,
)


@settings(max_examples=25)
@given(runs)
def test_any_sequence_of_runs_equals_its_pages(sequence: list[tuple[int, int, int, bool, int]]) -> None:
    run, pages = started(), started()
    for page, flags, count, measured, seed in sequence:
        contents = contents_of(count, seed)
        run.eadd_run(page * 4096, flags, contents, count, measured)
        page_by_page(pages, page * 4096, flags, contents, count, measured)
    assert (run.blocks, run.digest()) == (pages.blocks, pages.digest())


def test_two_measurements_in_turn_do_not_mix() -> None:
    turns, alone = (started(), started()), (started(), started())
    for step in range(12):
        which = step % 2
        turns[which].eadd_run(step << 20, 0x203, contents_of(RUN, step), RUN, True)
    for which in (0, 1):
        for step in range(which, 12, 2):
            alone[which].eadd_run(step << 20, 0x203, contents_of(RUN, step), RUN, True)
    assert [m.digest() for m in turns] == [m.digest() for m in alone]


def test_contents_may_change_as_soon_as_the_run_returns() -> None:
    m, expected = started(), started()
    buffer = bytearray(contents_of(4 * RUN))
    m.eadd_run(0, 0x203, memoryview(buffer), 4 * RUN, True)
    buffer[:] = bytes(len(buffer))
    expected.eadd_run(0, 0x203, contents_of(4 * RUN), 4 * RUN, True)
    assert m.digest() == expected.digest()


def test_no_reference_to_the_contents_is_kept() -> None:
    """The caller's mapping can be closed: a bytearray with a view on it could not be resized."""
    buffer = bytearray(contents_of(2 * RUN))
    m = started()
    m.eadd_run(0, 0x203, buffer, 2 * RUN, True)
    buffer.clear()
    assert m.digest()


def test_contents_need_no_alignment() -> None:
    shifted, straight = started(), started()
    shifted.eadd_run(0, 0x203, memoryview(b"?" + contents_of(10))[1:], 10, True)
    straight.eadd_run(0, 0x203, contents_of(10), 10, True)
    assert shifted.digest() == straight.digest()


def test_the_digest_does_not_end_the_measurement() -> None:
    asked, silent = started(), started()
    for m in (asked, silent):
        m.eadd_run(0, 0x203, contents_of(20), 20, True)
        if m is asked:
            m.digest()
        m.eadd(0x100000, 0x203)
    assert asked.digest() == silent.digest()


def test_a_copy_goes_its_own_way() -> None:
    m = started()
    m.eadd_run(0, 0x203, contents_of(RUN), RUN, True)
    copied = m.copy()
    assert (copied.blocks, copied.digest()) == (m.blocks, m.digest())
    copied.eadd(0x100000, 0x203)
    assert copied.digest() != m.digest()
    assert copied.blocks == m.blocks + 1


def test_pages_in_another_order_measure_differently() -> None:
    up, down = started(), started()
    for m, order in ((up, (0, 1)), (down, (1, 0))):
        for page in order:
            m.eadd(page * 4096, 0x203)
    assert up.digest() != down.digest()


def test_a_measured_page_is_5184_bytes_of_hash_input() -> None:
    m = started()
    m.eadd_run(0, 0x203, D, 1, True)
    assert (m.blocks - 1) * 64 == MEASURED_PAGE_SIZE == 5184


def test_ecreate_comes_first() -> None:
    with pytest.raises(ValueError, match="EADD: a measurement starts with ECREATE"):
        Measurement().eadd(0, 0x203)
    with pytest.raises(ValueError, match="EEXTEND: a measurement starts with ECREATE"):
        Measurement().eextend(0, bytes(256))
    with pytest.raises(ValueError, match="EADD: a measurement starts with ECREATE"):
        Measurement().eadd_run(0, 0x203, None, 1, False)


def test_ecreate_comes_once() -> None:
    with pytest.raises(ValueError, match="ECREATE: the measurement has been started before"):
        started().ecreate(1, 0x2000)


@pytest.mark.parametrize(("ssaframesize", "size"), [(1 << 32, 0x2000), (-1, 0x2000), (1, 1 << 64), (1, -1)])
def test_ecreate_refuses_what_does_not_fit_its_block(ssaframesize: int, size: int) -> None:
    with pytest.raises(ValueError, match="ECREATE"):
        Measurement().ecreate(ssaframesize, size)


@pytest.mark.parametrize("offset", [1, 256, 4095, -4096, 1 << 64])
def test_a_page_offset_is_a_multiple_of_4096(offset: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4096"):
        started().eadd(offset, 0x203)
    with pytest.raises(ValueError, match="multiple of 4096"):
        started().eadd_run(offset, 0x203, D, 1, True)


@pytest.mark.parametrize("flags", [-1, 1 << 64])
def test_flags_have_64_bits(flags: int) -> None:
    with pytest.raises(ValueError, match=r"SECINFO\.FLAGS"):
        started().eadd(0, flags)
    with pytest.raises(ValueError, match=r"SECINFO\.FLAGS"):
        started().eadd_run(0, flags, D, 1, True)


@pytest.mark.parametrize("offset", [1, 64, 255])
def test_a_chunk_offset_is_a_multiple_of_256(offset: int) -> None:
    with pytest.raises(ValueError, match="multiple of 256"):
        started().eextend(offset, bytes(256))


@pytest.mark.parametrize("size", [0, 255, 257, 4096])
def test_a_chunk_has_256_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="a chunk has 256"):
        started().eextend(0, bytes(size))


@pytest.mark.parametrize("size", [0, 4095, 2 * 4096, 4 * 4096, 3 * 4096 + 1])
def test_a_measured_run_wants_exactly_its_contents(size: int) -> None:
    m = started()
    before = m.digest()
    with pytest.raises(ValueError, match=f"{size} bytes given for 3 measured pages"):
        m.eadd_run(0, 0x203, bytes(size), 3, True)
    assert m.digest() == before


def test_a_measured_run_without_contents_is_refused() -> None:
    with pytest.raises(ValueError, match="0 bytes given"):
        started().eadd_run(0, 0x203, None, 1, True)


@pytest.mark.parametrize(("offset", "count"), [(0, -1), ((1 << 64) - 4096, 2)])
def test_a_run_ends_below_2_to_the_64(offset: int, count: int) -> None:
    with pytest.raises(ValueError, match="below 2\\^64"):
        started().eadd_run(offset, 0x203, None, count, False)


def test_a_run_may_end_at_the_last_page_there_is() -> None:
    run, pages = started(), started()
    top = (1 << 64) - 2 * 4096
    run.eadd_run(top, 0x203, D * 2, 2, True)
    page_by_page(pages, top, 0x203, D * 2, 2, True)
    assert run.digest() == pages.digest()


def test_the_last_measured_run_can_be_longer_than_all_blocks_together() -> None:
    """More than the pipeline holds at a time: the caller waits for room."""
    m = started()
    m.eadd_run(0, 0x203, D, 20 * measure._RUN_PAGES, True)
    assert m.blocks == 1 + 20 * measure._RUN_PAGES * 81
