"""EADD in bulk is EADD page after page: same contents, same EPCM, same MRENCLAVE, same refusals."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.cpu.encls.eadd import run
from swsgx.cpu.encls.eextend import extend_page
from swsgx.cpu.faults import Fault, GeneralProtection
from swsgx.cpu.memory import not_mapped
from swsgx.isa.address import PAGE_SIZE, EpcAddr, Linaddr
from swsgx.isa.flags import PageType, secinfo_flags
from swsgx.isa.structs import Secinfo
from tests.make.leaves import Bench
from tests.make.world import BASE, REG_RW, SIZE, TCS, a_tcs

PAGES = SIZE // PAGE_SIZE


@dataclass
class Source:
    """Pages for the bulk leaf; ``readable`` of them can be read."""

    data: bytes
    readable: int | None = None
    copies: list[int] = field(default_factory=list)

    @property
    def end(self) -> int:
        return len(self.data) if self.readable is None else self.readable * PAGE_SIZE

    def copy_to_file(self, fd: int, file_offset: int, position: int, size: int) -> int:
        self.copies.append(size)
        # Half a page too much shows that a page counts only when all of it was copied.
        torn = PAGE_SIZE // 2 if self.readable is not None else 0
        return os.pwrite(fd, self.data[position : min(position + size, self.end + torn)], file_offset)

    def read(self, position: int, size: int) -> bytes:
        if position + size > self.end:
            raise not_mapped(Linaddr(position), size)
        return self.data[position : position + size]


def pages_of(seed: int, count: int, flags: int) -> bytes:
    if flags & 0xFF00 == TCS:
        return bytes(a_tcs(oentry=seed)) * count
    return np.random.default_rng(seed).bytes(count * PAGE_SIZE)


def outcome(bench: Bench, secs: EpcAddr) -> tuple[object, ...]:
    """All that adding pages changes. The order of frames is the test's own."""
    frame = bench.cpu.epc.frame(secs)
    state = bench.cpu.enclaves[frame]
    return (
        state.measurement.digest(),
        state.measurement.blocks,
        state.children,
        sorted(state.tcs),
        bytes(state.store.contents.view),
        bytes(state.store.frame_map.data),
        bytes(bench.cpu.epcm.region.view),
        bytes(bench.cpu.epc.store.view),
    )


@given(
    first=st.integers(-1, PAGES),
    count=st.integers(1, PAGES),
    page_type=st.sampled_from([PageType.REG, PageType.REG, PageType.TCS, PageType.VA]),
    perm=st.integers(0, 7),
    measured=st.booleans(),
    taken=st.sets(st.integers(0, PAGES - 1), max_size=2),
    shuffled=st.booleans(),
    readable=st.none() | st.integers(0, PAGES),
    initialised=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_bulk_leaf_equals_single_leaves(
    first: int,
    count: int,
    page_type: PageType,
    perm: int,
    measured: bool,
    taken: set[int],
    shuffled: bool,
    readable: int | None,
    initialised: bool,
    seed: int,
) -> None:
    flags = secinfo_flags(page_type, perm)
    data = pages_of(seed, count, flags)
    ends: list[tuple[object, ...]] = []
    for bulk in (True, False):
        bench = Bench()
        secs = bench.ecreate()
        for offset in sorted(taken):
            bench.eadd(secs, offset * PAGE_SIZE)
        if initialised and seed % 4 == 0:
            bench.einit(secs)
        frames = bench.cpu.epc.allocate_run(count)
        if shuffled:
            frames = frames[::-1].copy()
        start = Linaddr(BASE + first * PAGE_SIZE)
        refused: str | None = None
        done = 0
        if bulk:
            before = bench.cpu.enclaves[bench.cpu.epc.frame(secs)].children
            source = Source(data, readable)
            try:
                done = run(bench.cpu, secs, frames, start, Secinfo.of(flags=flags), source, measured)
            except Fault as fault:
                refused = str(fault)
                done = bench.cpu.enclaves[bench.cpu.epc.frame(secs)].children - before
        else:
            with contextlib.suppress(StopIteration):
                for index, frame in enumerate(frames):
                    there = readable is None or index < readable
                    page = bench.cpu.epc.address(int(frame))
                    contents = data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
                    values = {} if there else {"srcpge": bench.unmapped}
                    try:
                        bench.eadd(
                            secs, first * PAGE_SIZE + index * PAGE_SIZE, flags, contents, page, **values
                        )
                    except Fault as fault:
                        if "SRCPGE is readable" not in fault.reason.rule:
                            refused = str(fault)
                        break
                    if measured:
                        extend_page(bench.cpu, secs, page)
                    done += 1
        ends.append((done, refused, *outcome(bench, secs)))
        bench.cpu.close()
    assert ends[0] == ends[1]


def test_reg_pages_are_copied_by_the_block(bench: Bench) -> None:
    secs = bench.ecreate()
    source = Source(bytes(range(256)) * 16 * PAGES)
    frames = bench.cpu.epc.allocate_run(PAGES)
    assert run(bench.cpu, secs, frames, Linaddr(BASE), Secinfo.of(flags=REG_RW), source, True) == PAGES
    assert source.copies == [SIZE]


def test_what_was_copied_and_not_added_reads_as_zero_later(bench: Bench) -> None:
    secs = bench.ecreate()
    source = Source(b"x" * SIZE, readable=3)
    frames = bench.cpu.epc.allocate_run(PAGES)
    assert run(bench.cpu, secs, frames, Linaddr(BASE), Secinfo.of(flags=REG_RW), source, True) == 3
    store = bench.cpu.enclaves[bench.cpu.epc.frame(secs)].store
    assert bytes(store.contents.view[: 3 * PAGE_SIZE]) == b"x" * 3 * PAGE_SIZE
    assert not any(store.contents.view[3 * PAGE_SIZE :])


@pytest.mark.parametrize("flags", [REG_RW, TCS])
def test_who_admits_pages_sees_their_bytes_and_can_stop(bench: Bench, flags: int) -> None:
    secs = bench.ecreate()
    data = pages_of(5, 4, flags)
    seen: list[tuple[int, bytes]] = []

    def admit(position: int, contents: memoryview) -> int:
        seen.append((position, bytes(contents)))
        pages = len(contents) // PAGE_SIZE
        return max(0, min(pages, 2 - position // PAGE_SIZE))

    frames = bench.cpu.epc.allocate_run(4)
    added = run(bench.cpu, secs, frames, Linaddr(BASE), Secinfo.of(flags=flags), Source(data), True, admit)
    state = bench.cpu.enclaves[bench.cpu.epc.frame(secs)]
    assert (added, state.children) == (2, 2)
    assert not any(state.store.contents.view[2 * PAGE_SIZE :])
    assert b"".join(contents for _, contents in seen).startswith(data[: 3 * PAGE_SIZE])


def test_a_page_locked_in_the_middle_stops_there(bench: Bench) -> None:
    secs = bench.ecreate()
    frames = bench.cpu.epc.allocate_run(4)
    locked = bench.cpu.epc.address(int(frames[2]))
    with bench.cpu.lock(locked), pytest.raises(GeneralProtection, match="RCX is not in use"):
        run(bench.cpu, secs, frames, Linaddr(BASE), Secinfo.of(flags=REG_RW), Source(bytes(SIZE)), True)
    assert bench.cpu.enclaves[bench.cpu.epc.frame(secs)].children == 2


def test_one_frame_given_twice_is_refused_the_second_time(bench: Bench) -> None:
    secs = bench.ecreate()
    frame = bench.cpu.epc.allocate_run(1)
    twice = np.concatenate((frame, frame))
    with pytest.raises(Fault, match=r"EPCM\(RCX\).VALID is 0"):
        run(bench.cpu, secs, twice, Linaddr(BASE), Secinfo.of(flags=REG_RW), Source(bytes(SIZE)), False)
    assert bench.cpu.enclaves[bench.cpu.epc.frame(secs)].children == 1


def test_bad_addresses_are_refused_as_by_the_single_leaf(bench: Bench) -> None:
    secs = bench.ecreate()
    frames = bench.cpu.epc.allocate_run(2)
    good, source = Linaddr(BASE), Source(bytes(SIZE))
    for owner, linaddr, rule in (
        (EpcAddr(secs + 8), good, "PAGEINFO.SECS is a multiple of 4096"),
        (bench.outside, good, "PAGEINFO.SECS is in the EPC"),
        (secs, Linaddr(BASE + 8), "PAGEINFO.LINADDR is a multiple of 4096"),
        (bench.page(), good, "PAGEINFO.SECS is a valid SECS page"),
    ):
        with pytest.raises(Fault, match=rule):
            run(bench.cpu, owner, frames, linaddr, Secinfo.of(flags=REG_RW), source, True)
    assert bench.cpu.enclaves[bench.cpu.epc.frame(secs)].children == 0
