"""``.sgxs`` streams: what they mean, each rule broken once, and bulk reading equal to reading one by one."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swsgx.image import sgxs
from swsgx.image.enclave import plan_of
from swsgx.image.errors import ImageError
from swsgx.image.plan import LoadPlan, PageRun
from swsgx.image.sgxs import Stream, fix_size, scan
from swsgx.image.writer import write_sgxs
from swsgx.isa.address import Offset
from tests.make.elf import Elf
from tests.make.enclave import chunk, convention_elf, eadd, ecreate, page, selftest_elf, stream


def scanned(data: bytes) -> Stream:
    return scan("s.sgxs", memoryview(data))


def written(plan: LoadPlan) -> bytes:
    out = io.BytesIO()
    write_sgxs(plan, out)
    return out.getvalue()


def refusal(action: Callable[[], object]) -> ImageError:
    with pytest.raises(ImageError) as caught:
        action()
    return caught.value


# What a stream means


def test_a_plain_streams_measurement_is_its_own_hash_and_its_plans_measurement() -> None:
    data = stream(page(0, 0x205, bytes(range(256)) * 16), page(0x1000, 0x100), eadd(0x2000), eadd(0x3000))
    read = scanned(data)
    assert read.violations == []
    assert read.digest() == hashlib.sha256(data).digest() == read.plan().measure().digest()
    assert read.plan().tcs == (0x1000,)


def test_unmeasured_chunks_are_loaded_and_not_hashed() -> None:
    part = eadd(0) + chunk(0, b"a" * 256) + chunk(0x100, b"b" * 256, measured=False)
    read = scanned(stream(part, eadd(0x1000)))
    assert read.digest() == hashlib.sha256(stream(eadd(0), chunk(0, b"a" * 256), eadd(0x1000))).digest()
    run = read.plan().entries[0]
    assert run.chunks == (0,)
    assert not run.measured
    assert bytes(run.content or b"")[:513] == b"a" * 256 + b"b" * 256 + b"\0"
    assert read.plan().measure().digest() == read.digest()
    assert (read.measured_chunks, read.unmeasured_chunks) == (1, 1)


def test_a_page_without_chunks_is_zero_and_unmeasured() -> None:
    run = scanned(stream(eadd(0), eadd(0x1000))).plan().entries[0]
    assert (run.count, run.measured, run.content, run.chunk_mask) == (2, False, None, 0)


def test_a_page_of_unmeasured_chunks_only_has_content_and_no_measurement() -> None:
    run = scanned(stream(eadd(0) + chunk(0x300, b"z" * 256, measured=False))).plan().entries[0]
    assert (run.measured, run.chunks, run.chunk_mask) == (False, None, 0)
    assert bytes(run.content or b"")[0x300:0x400] == b"z" * 256


def test_chunks_out_of_order_are_allowed_and_their_order_is_kept() -> None:
    records = [chunk(i * 256, bytes([i]) * 256) for i in range(16)]
    data = stream(eadd(0) + b"".join(records[::-1]))
    plan = scanned(data).plan()
    assert plan.entries[0].chunks == tuple(range(15, -1, -1))
    assert not plan.entries[0].loadable
    assert plan.measure().digest() == hashlib.sha256(data).digest()


def test_neighbours_that_are_alike_become_one_run() -> None:
    data = stream(*(page(i * 0x1000) for i in range(6)), *(eadd(0x8000 + i * 0x1000) for i in range(5)))
    runs = scanned(data).plan().entries
    assert sum(r.count for r in runs if r.measured) == 6
    assert [(r.offset, r.count) for r in runs if not r.measured] == [(0x8000, 5)]


def test_a_page_with_a_few_chunks_repeated_is_one_run() -> None:
    data = stream(*(eadd(i * 0x1000) + chunk(i * 0x1000 + 0x100, bytes([i]) * 256) for i in range(4)))
    (run,) = scanned(data).plan().entries
    assert (run.count, run.chunks) == (4, (1,))
    assert scanned(data).plan().measure().digest() == hashlib.sha256(data).digest()


def test_progress_of_a_digest_adds_up_to_what_is_hashed() -> None:
    data = stream(page(0), page(0x1000))
    done: list[int] = []
    scanned(data).digest(done.append)
    assert sum(done) == len(data)


# Structure: nothing sensible can be made of these

STRUCTURE = {
    "empty": (b"", "ends at the end of a record", 0),
    "less than a header": (ecreate()[:63], "ends at the end of a record", 0),
    "EADD first": (eadd(0), "first record is ECREATE", 0),
    "EEXTEND first": (chunk(0), "first record is ECREATE", 0),
    "UNMEASRD first": (chunk(0, measured=False), "first record is ECREATE", 0),
    "unknown first": (bytes(64), "first record is ECREATE", 0),
    "two ECREATEs": (stream(page(0), ecreate()), "only the first record", 64 + 5184),
    "UNSIZED after ECREATE": (stream(ecreate(tag=b"UNSIZED\0")), "only the first record", 64),
    "a chunk without a page": (stream(chunk(0)), "after the EADD", 64),
    "an unmeasured chunk without a page": (stream(chunk(0, measured=False)), "after the EADD", 64),
    "unknown tag": (stream(b"EREMOVE\0" + bytes(56)), "known tag", 64),
    "tag of zeros": (stream(bytes(64)), "known tag", 64),
    "UNMEASRD with the wrong end": (stream(eadd(0), b"UNMEASR\0" + bytes(312)), "known tag", 128),
    "cut in a tag": (stream(page(0))[: 64 + 3], "ends at the end of a record", 64),
    "cut in an EADD": (stream(page(0))[: 64 + 40], "ends at the end of a record", 64),
    "cut in a chunk's header": (stream(page(0))[: 128 + 20], "ends at the end of a record", 128),
    "cut in a chunk": (stream(page(0))[:-1], "ends at the end of a record", 64 + 5184 - 320),
    "cut in an unmeasured chunk": (
        stream(eadd(0), chunk(0, measured=False))[:-9],
        "ends at the end of a record",
        128,
    ),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_stream_without_sense_is_refused_with_its_offset(name: str) -> None:
    data, words, offset = STRUCTURE[name]
    error = refusal(lambda: scanned(data))
    assert words in error.reason.rule
    assert error.offset == offset
    assert error.file == "s.sgxs"


# Rules: measurable, and refused by loaders


def dirty(record: bytes, offset: int) -> bytes:
    data = bytearray(record)
    data[offset] = 1
    return bytes(data)


RULES = {
    "pages descend": (stream(page(0x1000), page(0)), "pages ascend", 64 + 5184 + 8),
    "a page twice": (stream(page(0), page(0)), "pages ascend", 64 + 5184 + 8),
    "an unmeasured page twice": (stream(eadd(0), eadd(0)), "pages ascend", 128 + 8),
    "misaligned page": (stream(eadd(0x800)), "page aligned", 64 + 8),
    "misaligned chunk": (stream(eadd(0), chunk(0x80)), "multiple of 256", 128 + 8),
    "chunk behind its page": (stream(eadd(0), chunk(0x1000)), "in the page of the EADD", 128 + 8),
    "chunk of an earlier page": (
        stream(page(0), eadd(0x1000), chunk(0)),
        "in the page of the EADD",
        5312 + 8,
    ),
    "chunk 0 twice": (stream(eadd(0), chunk(0), chunk(0)), "a chunk comes once", 448 + 8),
    "chunk 5 twice": (stream(eadd(0), chunk(0x500), chunk(0x500)), "a chunk comes once", 448 + 8),
    "a whole page's chunk again": (
        stream(page(0), page(0x1000), chunk(0x1F00)),
        "a chunk comes once",
        64 + 2 * 5184 + 8,
    ),
    "measured, then unmeasured": (
        stream(eadd(0), chunk(0), chunk(0, measured=False)),
        "a chunk comes once",
        448 + 8,
    ),
    "TCS with permissions": (stream(eadd(0, 0x103)), "a TCS without permissions", 64 + 16),
    "TCS that can be read": (stream(eadd(0, 0x101)), "a TCS without permissions", 64 + 16),
    "SECS page": (stream(eadd(0, 0x003)), "SECINFO that EADD takes", 64 + 16),
    "TRIM page": (stream(eadd(0, 0x403)), "SECINFO that EADD takes", 64 + 16),
    "pending page": (stream(eadd(0, 0x20B)), "SECINFO that EADD takes", 64 + 16),
    "flags above 16 bits": (stream(eadd(0, 0x10203)), "SECINFO that EADD takes", 64 + 16),
    "W without R": (stream(eadd(0, 0x202)), "not writable without being readable", 64 + 16),
    "page at the size": (stream(page(0x10000)), "lies inside the enclave", 64 + 8),
    "runs over the size": (
        stream(*(page(0xC000 + i * 0x1000) for i in range(5))),
        "lies inside",
        64 + 4 * 5184 + 8,
    ),
    "size not a power of two": (ecreate(0x3000) + page(0), "size is a power of two", 12),
    "size of one page": (ecreate(0x1000) + page(0), "size is a power of two", 12),
    "size 0": (ecreate(0), "size is a power of two", 12),
    "no SSA frame": (ecreate(ssaframesize=0), "SSA frame has at least one page", 8),
    "ECREATE with a reserved byte": (dirty(ecreate(), 63), "reserved bytes", 63),
    "EADD with a reserved byte": (stream(dirty(eadd(0), 24)), "reserved bytes", 64 + 24),
    "EADD of many with a reserved byte": (
        stream(dirty(eadd(0), 63), eadd(0x1000)),
        "reserved bytes",
        64 + 63,
    ),
    "EEXTEND with a reserved byte": (stream(eadd(0), dirty(chunk(0), 16)), "reserved bytes", 128 + 16),
    "UNMEASRD with a reserved byte": (
        stream(eadd(0), dirty(chunk(0, measured=False), 63)),
        "reserved bytes",
        128 + 63,
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_a_stream_that_breaks_a_rule_can_be_measured_and_not_loaded(name: str) -> None:
    data, words, offset = RULES[name]
    read = scanned(data)
    error = refusal(read.plan)
    assert words in error.reason.rule
    assert error.offset == offset
    if b"UNMEASRD" not in data:
        assert read.digest() == hashlib.sha256(data).digest()


def test_at_most_a_hundred_violations_are_kept() -> None:
    assert len(scanned(stream(*(eadd(0x800) for _ in range(300)))).violations) == 100


# UNSIZED


def unsized(target: int, *records: bytes) -> bytes:
    return ecreate(target, tag=b"UNSIZED\0") + b"".join(records)


def test_an_unsized_stream_has_no_measurement_and_no_plan() -> None:
    read = scanned(unsized(0, page(0)))
    assert not read.sized
    for action in (read.digest, read.plan):
        assert "how large" in refusal(action).reason.rule


def test_fixing_the_size_makes_the_record_and_stores_the_size() -> None:
    fixed = fix_size("s.sgxs", memoryview(unsized(0x2318, page(0), page(0x2000))))
    read = scanned(fixed)
    assert (read.sized, read.size) == (True, 0x4000)
    (second,) = (r for r in read.plan().entries if r.offset == 0x2000)
    assert bytes(second.content or b"")[0x318:0x320] == (0x4000).to_bytes(8, "little")


def test_one_page_makes_an_enclave_of_two() -> None:
    assert scanned(fix_size("s.sgxs", memoryview(unsized(0, page(0))))).size == 0x2000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (stream(page(0)), "has no size yet"),
        (unsized(0x4, page(0)), "at a multiple of 8"),
        (unsized(0x3000, page(0)), "goes into measured data"),
        (unsized(0x100, eadd(0), chunk(0x100, measured=False)), "goes into measured data"),
        (unsized(0), "the stream has a page"),
        (unsized(0, page(0x1000), page(0)), "pages ascend"),
    ],
)
def test_a_size_that_cannot_be_fixed_is_refused(data: bytes, words: str) -> None:
    assert words in refusal(lambda: fix_size("s.sgxs", memoryview(data))).reason.rule


# Writing


@pytest.mark.parametrize("elf", [convention_elf(), selftest_elf()], ids=["ours", "selftest"])
def test_an_elf_enclave_written_as_a_stream_keeps_its_measurement(elf: Elf) -> None:
    plan = plan_of("x.elf", memoryview(elf.build()))
    data = written(plan)
    assert hashlib.sha256(data).digest() == plan.measure().digest()
    again = scanned(data)
    assert again.violations == []
    assert again.plan().tcs == plan.tcs
    assert written(again.plan()) == data


def test_a_stream_with_every_kind_of_page_is_written_back_byte_for_byte() -> None:
    data = stream(
        page(0, 0x205, b"\1" * 4096),
        eadd(0x1000) + chunk(0x1200, b"m" * 256) + chunk(0x1000, b"n" * 256),
        eadd(0x2000) + chunk(0x2100, b"m" * 256) + chunk(0x2200, b"u" * 256, measured=False),
        eadd(0x3000) + chunk(0x3F00, b"u" * 256, measured=False),
        eadd(0x4000),
        page(0x5000, 0x100),
    )
    assert written(scanned(data).plan()) == data


def test_pages_that_descend_cannot_be_written() -> None:
    runs = tuple(PageRun(Offset(o), 1, 0x203, True, None) for o in (0x1000, 0))
    error = refusal(lambda: written(LoadPlan("x", "test", 0x2000, 1, runs, ())))
    assert error.reason.rule == "pages ascend"


# Bulk reading


PAGES = st.lists(
    st.tuples(
        st.integers(0, 2),  # hole before it, in pages
        st.sampled_from([0x203, 0x203, 0x203, 0x205, 0x100]),
        st.sampled_from(["whole", "whole", "whole", "none", "none", "part", "mixed"]),
        st.integers(0, 255),
    ),
    max_size=40,
)


def made(pages: list[tuple[int, int, str, int]]) -> bytes:
    records, at = [], 0
    for hole, flags, kind, fill in pages:
        at += hole * 0x1000
        if kind == "whole":
            records.append(page(at, flags, bytes([fill]) * 4096))
        elif kind == "none":
            records.append(eadd(at, flags))
        else:
            records.append(eadd(at, flags) + chunk(at + 0x100, bytes([fill]) * 256))
            if kind == "mixed":
                records.append(chunk(at + 0x400, bytes([fill]) * 256, measured=False))
        at += 0x1000
    return ecreate(1 << 20) + b"".join(records)


def flat(read: Stream) -> list[tuple[int, int, int, bytes]]:
    """Every page on its own."""
    pages = []
    for run in read.runs:
        content = bytes(run.count * 4096) if run.content is None else bytes(run.content)
        for i in range(run.count):
            part = content[i * 4096 : (i + 1) * 4096]
            pages.append((run.offset + i * 4096, run.secinfo_flags, run.chunk_mask, part))
    return pages


@settings(deadline=None, max_examples=60)
@given(pages=PAGES, step=st.sampled_from([2, 3, 4, 1024]))
def test_bulk_reading_finds_the_same_pages_as_reading_one_by_one(
    pages: list[tuple[int, int, str, int]], step: int
) -> None:
    data = made(pages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sgxs, "_FIRST_BULK", step)
        bulk = scanned(data)
        patch.setattr(sgxs, "_FIRST_BULK", 1)
        single = scanned(data)
    assert flat(bulk) == flat(single)
    assert (
        bulk.digest()
        == single.digest()
        == hashlib.sha256(b"".join(data[a:b] for a, b in single.measured)).digest()
    )
    assert (bulk.pages, bulk.measured_chunks) == (single.pages, single.measured_chunks)
    assert bulk.plan().measure().digest() == bulk.digest()
    assert written(bulk.plan()) == written(single.plan())


@settings(deadline=None, max_examples=100)
@given(pages=PAGES, where=st.integers(0, 1 << 20), value=st.integers(0, 255), cut=st.integers(0, 400))
def test_a_damaged_stream_is_read_or_refused_alike_in_bulk_and_one_by_one(
    pages: list[tuple[int, int, str, int]], where: int, value: int, cut: int
) -> None:
    data = bytearray(made(pages))
    data[where % len(data)] = value
    del data[len(data) - cut % len(data) :]

    def outcome() -> object:
        try:
            read = scanned(bytes(data))
            return [str(v) for v in read.violations], read.violations == [] and flat(read)
        except ImageError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        bulk = outcome()
        patch.setattr(sgxs, "_FIRST_BULK", 1)
        single = outcome()
    assert bulk == single
