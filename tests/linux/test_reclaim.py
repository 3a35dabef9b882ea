"""The reclaimer: watermarks, the list, direct reclaim, reloads, and attacks on the backing file."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.isa.structs import Pcmd
from swsgx.linux.access import peek, poke
from swsgx.linux.backing import Backing
from swsgx.linux.device import EnclaveFile
from swsgx.linux.encl import Encl, EnclaveMapping
from swsgx.linux.engine import MappedRun, ModelOnly
from swsgx.linux.mm import AddressSpace
from swsgx.linux.outcome import ERESTARTSYS, Outcome
from swsgx.linux.reclaim import HIGH, LOW
from swsgx.native.abi import EpcmState, VmaBits
from tests.make.world import BASE, SIZE, TCS, World, a_secs, a_tcs, make_world

#: Pages that tests put into an enclave of 16.
PAGES = 8


def contents(page: int, tag: int = 0) -> bytes:
    """A page that no other page equals."""
    return struct.pack("<HH", page + 1, tag) * (PAGE_SIZE // 4)


def build(
    world: World, pages: int = PAGES, *, tag: int = 0, size: int = SIZE, init: bool = True
) -> EnclaveFile:
    """An enclave of RW pages with contents."""
    file = world.open()
    assert world.create(file, a_secs(size=size)).ok
    data = b"".join(contents(page, tag) for page in range(pages))
    outcome, _ = world.add(file, 0, data, measured=False)
    assert outcome.ok, str(outcome.reason)
    if init:
        assert world.init(file).ok
    return file


def evict(world: World, file: EnclaveFile, count: int = PAGES) -> None:
    """Have pages evicted, which are the oldest."""
    before = file.encl.paging.evicted
    world.driver.reclaimer.reclaim(count)
    assert file.encl.paging.evicted == before + count


def intact(file: EnclaveFile, page: int, tag: int = 0) -> bool:
    """Whether the page is there and as it was added."""
    return bytes(file.encl.store.page(page * PAGE_SIZE)) == contents(page, tag)


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


@pytest.fixture
def tiny() -> Iterator[World]:
    """A machine with 16 pages of EPC."""
    made = make_world(epc_pages=16)
    yield made
    made.cpu.close()


class Recording(ModelOnly):
    """An engine that remembers what is accessible, and says what was used."""

    def __init__(self) -> None:
        super().__init__()
        self.prot: dict[int, int] = {}
        self.used: set[int] = set()
        self.fails = False

    def map(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        self.protect(encl, runs)

    def protect(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        if self.fails:
            raise OSError(errno.ENOMEM, "too many mappings")
        for run in runs:
            for address in range(run.address, run.address + run.length, PAGE_SIZE):
                self.prot[address] = run.prot

    def accessed(self, mapping: EnclaveMapping, first: int, count: int) -> npt.NDArray[np.bool_]:
        young = np.array([page in self.used for page in range(first, first + count)])
        self.used -= set(range(first, first + count))
        return young


def mapped(world: World, file: EnclaveFile) -> tuple[AddressSpace, Recording]:
    """An address space with the whole enclave mapped, read-write."""
    engine = Recording()
    mm = AddressSpace(engine)
    world.mm = world.task.mm = mm
    assert world.map(file, 0, PAGES * PAGE_SIZE, 3).ok
    return mm, engine


# Numbers.


def test_watermarks_are_linux_s(world: World) -> None:
    assert (world.driver.reclaimer.low, world.driver.reclaimer.high, world.driver.reclaimer.batch) == (
        32,
        64,
        16,
    )
    assert (LOW, HIGH) == (32, 64)


def test_watermarks_of_a_tiny_epc_leave_most_of_it(tiny: World) -> None:
    assert (tiny.driver.reclaimer.low, tiny.driver.reclaimer.high, tiny.driver.reclaimer.batch) == (2, 4, 2)


def test_below_the_low_mark_pages_are_freed_up_to_the_high_mark(world: World) -> None:
    file = build(world, size=1 << 24, init=False, pages=200)
    epc = world.cpu.epc
    epc.allocate_run(epc.free_count - LOW - 4)
    assert world.add(file, 1 << 20, bytes(4 * PAGE_SIZE))[0].ok
    assert (epc.free_count, file.encl.paging.evicted) == (LOW, 0)
    assert world.add(file, 2 << 20, bytes(PAGE_SIZE))[0].ok
    assert epc.free_count >= HIGH
    assert file.encl.paging.evicted == HIGH - LOW + 1


def test_the_background_thread_may_be_another(world: World) -> None:
    file = build(world, size=1 << 24, init=False, pages=200)
    woken: list[int] = []
    world.driver.wake = lambda: woken.append(world.cpu.epc.free_count)
    epc = world.cpu.epc
    epc.allocate_run(epc.free_count - LOW)
    assert world.add(file, 1 << 20, bytes(PAGE_SIZE))[0].ok
    assert woken == [LOW - 1]
    assert not file.encl.paging.evicted


# The list.


def test_the_oldest_go_first(world: World) -> None:
    first, second = build(world), build(world, tag=1)
    evict(world, first, 3)
    assert [first.encl.paging.is_evicted(page) for page in range(PAGES)] == [True] * 3 + [False] * 5
    world.driver.reclaimer.reclaim(PAGES)
    assert (first.encl.paging.evicted, second.encl.paging.evicted) == (PAGES, 3)


def test_a_page_that_was_loaded_is_the_youngest(world: World) -> None:
    file = build(world, init=False)
    evict(world, file, 1)
    assert file.encl.load_page(at(0)).ok
    world.driver.reclaimer.reclaim(PAGES - 1)
    assert not file.encl.paging.is_evicted(0)
    world.driver.reclaimer.reclaim(1)
    assert file.encl.paging.is_evicted(0)


def test_a_page_that_was_used_is_spared_once(world: World) -> None:
    file = build(world, init=False)
    _, engine = mapped(world, file)
    engine.used = {0, 2}
    world.driver.reclaimer.reclaim(4)
    assert [page for page in range(PAGES) if file.encl.paging.is_evicted(page)] == [1, 3]
    world.driver.reclaimer.reclaim(PAGES)
    assert file.encl.paging.evicted == PAGES


def test_secs_and_va_pages_are_not_on_the_list(world: World) -> None:
    file = build(world, init=False)
    assert len(world.driver.reclaimer) == PAGES
    world.driver.reclaimer.reclaim(1000)
    left = [world.cpu.epcm[frame].pt for frame in range(1024) if world.cpu.epcm.valid(frame)]
    assert sorted(left) == [PageType.SECS, PageType.VA]
    assert file.encl.secs is not None


def test_tcs_pages_are(world: World) -> None:
    file = build(world, 2, init=False)
    assert world.add(file, 3 * PAGE_SIZE, bytes(a_tcs()), TCS)[0].ok
    world.driver.reclaimer.reclaim(10)
    assert file.encl.paging.is_evicted(3)
    assert not file.encl.state.tcs
    assert file.encl.load_page(at(3)).ok
    assert len(file.encl.state.tcs) == 1


def test_an_enclave_that_ends_leaves_the_list(world: World) -> None:
    file = build(world)
    file.close()
    assert not len(world.driver.reclaimer)
    assert world.driver.reclaimer.reclaim(100) == 0


# Eviction.


def test_a_page_leaves_every_address_space_and_comes_back(world: World) -> None:
    file = build(world)
    _, one = mapped(world, file)
    mm, two = mapped(world, file)
    bits = mm.mappings[file.encl].bits
    bits[:PAGES] |= np.uint8(VmaBits.PRESENT)
    assert {one.prot[at(page)] for page in range(PAGES)} == {3}
    evict(world, file, 2)
    for engine in (one, two):
        assert [engine.prot[at(page)] for page in range(4)] == [0, 0, 3, 3]
    assert bits[:3].tolist() == [11, 11, 27], "page-table entries are gone"
    assert file.encl.load_page(at(1)).ok
    for engine in (one, two):
        assert [engine.prot[at(page)] for page in range(4)] == [0, 3, 3, 3]
    assert intact(file, 1)


def test_access_is_gone_before_the_page_is_written(world: World) -> None:
    file = build(world)
    _, engine = mapped(world, file)
    seen: list[tuple[int, bool, int]] = []

    def shootdown(encl: Encl) -> bool:
        frame = int(encl.store.frame_map[0]) - 1
        state = world.cpu.epcm[frame].state
        seen.append((engine.prot[at(0)], intact(file, 0), state))
        return True

    world.driver.shootdown = shootdown
    evict(world, file, 1)
    assert seen == [(0, True, EpcmState.VALID | EpcmState.BLOCKED)]


def test_the_secs_follows_its_last_child_out_and_comes_back_first(world: World) -> None:
    file = build(world)
    encl, free = file.encl, world.cpu.epc.free_count
    evict(world, file, PAGES - 1)
    assert encl.secs is not None
    evict(world, file, 1)
    assert encl.secs is None
    assert world.cpu.epc.free_count == free + PAGES + 1
    held = world.cpu.epc.allocate_run(5)
    assert encl.load_page(at(4)).ok
    assert encl.secs is not None
    assert encl.store.head.secs_frame == encl.secs
    assert intact(file, 4)
    world.cpu.epc.free(held)
    assert encl.ensure_resident(at(page) for page in range(PAGES)).ok
    assert all(intact(file, page) for page in range(PAGES))


def test_the_secs_of_an_enclave_under_construction_stays(world: World) -> None:
    file = build(world, init=False)
    evict(world, file)
    assert file.encl.secs is not None
    assert world.add(file, PAGES * PAGE_SIZE, bytes(PAGE_SIZE), measured=False)[0].ok
    assert world.init(file).ok
    assert file.encl.ensure_resident([at(0)]).ok


def test_an_evicted_page_s_address_is_taken(world: World) -> None:
    file = build(world, init=False)
    evict(world, file)
    world.refused(world.add(file, 0, bytes(PAGE_SIZE))[0], errno.EBUSY, "no page was added")


def test_versions_are_in_the_va_pages(world: World) -> None:
    file = build(world)
    va = world.cpu.page(file.encl.va_pages[0])
    evict(world, file, 3)
    assert file.encl.paging.slots.used == 3
    assert np.count_nonzero(np.frombuffer(va, np.uint64)) == 3
    assert file.encl.ensure_resident([at(0), at(1), at(2)]).ok
    assert not any(va)


def test_an_enclave_of_many_pages_has_slots_for_all(world: World) -> None:
    file = build(world, 1300, size=1 << 24)
    assert file.encl.ensure_resident([at(0)]).ok
    world.driver.reclaimer.reclaim(2000)
    assert file.encl.paging.evicted == 1300
    assert file.encl.paging.slots.used == 1301
    assert len(file.encl.va_pages) == 3


def test_the_end_gives_everything_back(tiny: World) -> None:
    first, second = build(tiny), build(tiny, tag=1)
    assert first.encl.paging.evicted
    tiny.driver.reclaimer.reclaim(100)
    assert first.encl.secs is None
    first.close()
    second.close()
    assert tiny.cpu.epc.free_count == 16
    assert not tiny.cpu.enclaves
    assert not tiny.cpu.written_out
    assert not tiny.driver.leaked
    assert not tiny.driver.figures().enclaves


def test_memory_of_loaded_pages_goes_back(world: World) -> None:
    file = build(world, 600, size=1 << 24, init=False)

    def blocks() -> int:
        assert file.encl.paging.backing is not None
        return os.fstat(file.encl.paging.backing.region.fd).st_blocks * 512 // PAGE_SIZE

    world.driver.reclaimer.reclaim(600)
    assert blocks() >= 600
    assert file.encl.ensure_resident(at(page) for page in range(600)).ok
    assert file.encl.paging.backing is not None
    file.encl.paging.backing.trim()
    assert blocks() <= 600 // 32 + 2, "what is left is PCMD"
    assert not file.encl.paging.evicted


def test_no_more_is_evicted_than_there_is_room_for(world: World) -> None:
    file = build(world, init=False)
    world.driver.reclaimer.backing_pages = 3
    world.driver.reclaimer.reclaim(100)
    assert file.encl.paging.evicted == 3
    assert not world.driver.reclaimer.reclaimable


def test_a_host_without_memory_for_the_page_keeps_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file = build(world)
    _, engine = mapped(world, file)

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert world.driver.reclaimer.reclaim(4) == 0
        assert intact(file, 0)
    assert file.encl.load_page(at(0)).ok, "it was on its way out; it went, and came back"
    assert intact(file, 0)
    assert engine.prot[at(0)] == 3


def test_a_host_that_cannot_take_the_mapping_away_keeps_the_page(world: World) -> None:
    file = build(world)
    _, engine = mapped(world, file)
    engine.fails = True
    assert world.driver.reclaimer.reclaim(4) == 0
    assert intact(file, 0)
    engine.fails = False
    assert file.encl.load_page(at(0)).ok
    assert intact(file, 0)
    assert engine.prot[at(0)] == 3


# Threads.


def enter(file: EnclaveFile, *, inside: bool = True) -> None:
    """A thread enters or leaves."""
    (tcs,) = file.encl.state.tcs
    file.driver.cpu.page(tcs)[0] = int(inside)


def threaded(world: World) -> EnclaveFile:
    """An enclave with a TCS at page 8."""
    file = build(world, init=False)
    assert world.add(file, PAGES * PAGE_SIZE, bytes(a_tcs()), TCS)[0].ok
    assert world.init(file).ok
    return file


def test_an_enclave_is_left_alone_while_nobody_can_make_its_threads_leave(world: World) -> None:
    file = threaded(world)
    enter(file)
    assert world.driver.reclaimer.reclaim(100) == 0
    enter(file, inside=False)
    assert world.driver.reclaimer.reclaim(100) == PAGES + 1


def test_threads_are_made_to_leave(world: World) -> None:
    file = threaded(world)
    enter(file)
    asked: list[Encl] = []

    def shootdown(encl: Encl) -> bool:
        asked.append(encl)
        return True

    world.driver.shootdown = shootdown
    assert world.driver.reclaimer.reclaim(4) == 4
    assert asked == [file.encl]


def test_what_a_thread_may_still_see_stays(world: World) -> None:
    file = threaded(world)
    enter(file)
    world.driver.shootdown = lambda encl: False
    assert world.driver.reclaimer.reclaim(4) == 0
    assert intact(file, 0)
    outcome = file.encl.load_page(at(0))
    assert outcome.errno == errno.EAGAIN
    assert outcome.reason is not None
    assert "being written out" in outcome.reason.rule
    enter(file, inside=False)
    world.driver.shootdown = lambda encl: True
    assert file.encl.load_page(at(0)).ok
    assert intact(file, 0)


def test_what_a_process_may_still_have_mapped_stays_whoever_is_inside(world: World) -> None:
    file = threaded(world)
    world.driver.shootdown = lambda encl: False
    assert world.driver.reclaimer.reclaim(4) == 0
    assert intact(file, 0)


def test_a_page_off_the_list_is_not_evicted(world: World) -> None:
    file = build(world, init=False)
    reclaimer = world.driver.reclaimer
    assert reclaimer.unlist(file.encl, 1, 2) == 2
    assert reclaimer.unlist(file.encl, 0, 3) == 1
    assert len(reclaimer) == PAGES - 3
    assert reclaimer.reclaim(100) == PAGES - 3
    assert not len(reclaimer)
    reclaimer.enlist(file.encl, np.array([0, 1, 2]))
    assert reclaimer.reclaim(100) == 3


def test_a_page_that_comes_back_to_the_list_has_its_old_place(world: World) -> None:
    file = build(world, init=False)
    reclaimer = world.driver.reclaimer
    reclaimer.unlist(file.encl, 0, 1)
    reclaimer.enlist(file.encl, np.array([0]))
    assert len(reclaimer) == PAGES
    evict(world, file, 1)
    assert file.encl.paging.is_evicted(0)


def test_an_address_space_that_forks_meanwhile_is_told_too(world: World) -> None:
    file = build(world)
    children: list[AddressSpace] = []

    class Forking(Recording):
        def protect(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
            super().protect(encl, runs)
            if not children:
                children.append(mm.fork())

    mm = world.mm = world.task.mm = AddressSpace(Recording())
    assert world.map(file, 0, PAGES * PAGE_SIZE, 3).ok
    mm.mappings[file.encl].bits[:] |= int(VmaBits.PRESENT)
    mm.engine = Forking()
    evict(world, file, 1)
    assert not children[0].mappings[file.encl].bits[0] & VmaBits.PRESENT
    assert children[0].mappings[file.encl].bits[1] & VmaBits.PRESENT
    children[0].exit()


# Allocation.


def test_a_full_epc_makes_add_pages_reclaim(tiny: World) -> None:
    first = build(tiny, init=False)
    second = build(tiny, tag=1)
    assert first.encl.paging.evicted
    for file, tag in ((first, 0), (second, 1)):
        for page in range(PAGES):
            assert file.encl.load_page(at(page)).ok
            assert intact(file, page, tag)


def test_an_enclave_larger_than_the_epc_is_built_and_used(tiny: World) -> None:
    file = build(tiny, 200, size=1 << 20)
    for page in (*range(200), *range(199, -1, -7)):
        assert file.encl.load_page(at(page)).ok
        assert intact(file, page)


def test_a_full_epc_makes_create_reclaim(tiny: World) -> None:
    first = build(tiny)
    tiny.cpu.epc.allocate_run(tiny.cpu.epc.free_count)
    assert tiny.create(tiny.open()).ok
    assert first.encl.paging.evicted


def test_with_an_empty_list_it_is_enomem(tiny: World) -> None:
    file = tiny.open()
    assert tiny.create(file).ok
    tiny.cpu.epc.allocate_run(tiny.cpu.epc.free_count)
    tiny.refused(tiny.create(tiny.open()), errno.ENOMEM, "an EPC page is free")
    tiny.refused(tiny.add(file, 0, bytes(PAGE_SIZE))[0], errno.ENOMEM, "an EPC page is free")


def test_pages_that_are_used_over_and_over_are_enomem_in_the_end(tiny: World) -> None:
    file = build(tiny)
    _, engine = mapped(tiny, file)
    engine.accessed = lambda mapping, first, count: np.ones(count, np.bool_)  # type: ignore[method-assign]
    tiny.cpu.epc.allocate_run(tiny.cpu.epc.free_count)
    tiny.refused(tiny.create(tiny.open()), errno.ENOMEM, "an EPC page is free")


def test_a_signal_while_pages_are_reclaimed_restarts_the_call(tiny: World) -> None:
    build(tiny)
    tiny.cpu.epc.allocate_run(tiny.cpu.epc.free_count)
    tiny.task.signal_pending = lambda: True
    tiny.refused(tiny.create(tiny.open()), ERESTARTSYS, "no signal arrives while pages are reclaimed")


def test_a_reload_never_reclaims_but_wakes_the_thread(world: World) -> None:
    file, other = build(world), build(world, tag=1)
    evict(world, file, 4)
    epc = world.cpu.epc
    held = epc.allocate_run(epc.free_count)
    wakes: list[int] = []
    world.driver.wake = lambda: wakes.append(1)
    outcome = file.encl.load_page(at(0))
    assert outcome.errno == errno.EAGAIN
    assert wakes
    assert (file.encl.paging.evicted, other.encl.paging.evicted) == (4, 0)
    epc.free(held[:1])
    assert file.encl.load_page(at(0)).ok


def test_a_reload_without_hope_is_enomem(world: World) -> None:
    file = build(world)
    world.driver.reclaimer.reclaim(100)
    epc = world.cpu.epc
    epc.allocate_run(epc.free_count)
    assert file.encl.load_page(at(0)).errno == errno.ENOMEM


# Reloading.


def test_a_hole_is_efault(world: World) -> None:
    file = build(world)
    for address in (at(PAGES), BASE - PAGE_SIZE, BASE + SIZE):
        outcome = file.encl.load_page(address)
        assert outcome.errno == errno.EFAULT
        assert outcome.reason is not None
        assert "a page was added" in outcome.reason.rule


def test_a_resident_page_is_mapped_again(world: World) -> None:
    file = build(world)
    _, engine = mapped(world, file)
    engine.prot[at(0)] = 0
    assert file.encl.load_page(at(0)).ok
    assert engine.prot[at(0)] == 3
    assert not world.driver.figures().faults


def test_who_loads_in_order_gets_the_next_pages_too(world: World) -> None:
    file = build(world, 100, size=1 << 20)
    evict(world, file, 100)
    page, counts = 3, []
    while page < 80:
        before = file.encl.paging.evicted
        assert file.encl.load_page(at(page)).ok
        counts.append(before - file.encl.paging.evicted)
        page += counts[-1]
    assert counts == [1, 5, 9, 17, 33, 32], "the last ends with the enclave"
    assert all(intact(file, number) for number in range(3, 100))


def test_who_loads_here_and_there_gets_one_page(world: World) -> None:
    file = build(world, 100, size=1 << 20)
    evict(world, file, 100)
    for number, page in enumerate((50, 3, 9, 90, 40)):
        assert file.encl.load_page(at(page)).ok
        assert file.encl.paging.evicted == 99 - number


def test_room_is_made_for_what_comes_along(world: World) -> None:
    file = build(world, 40, size=1 << 20, init=False)
    evict(world, file, 40)
    epc = world.cpu.epc
    epc.allocate_run(epc.free_count - LOW - 2)
    for page in range(3):
        assert file.encl.load_page(at(page)).ok
        assert epc.free_count >= LOW
    assert file.encl.state.children + file.encl.paging.evicted == 40


def test_a_debugger_sees_evicted_pages(world: World) -> None:
    file = build(world)
    mm, engine = mapped(world, file)
    evict(world, file)
    assert peek(mm, at(2)) == contents(2)[:8]
    assert poke(mm, at(5) + 8, b"debugged").ok
    assert engine.prot[at(2)] == 3
    world.driver.reclaimer.reclaim(100)
    assert peek(mm, at(5) + 8) == b"debugged"


def test_a_debugger_of_a_broken_enclave_gets_eio(world: World) -> None:
    file = build(world)
    mm, _ = mapped(world, file)
    evict(world, file)
    backing(file).page(2)[0] ^= 1
    got = peek(mm, at(2))
    assert isinstance(got, Outcome)
    assert got.errno == errno.EIO


# Attacks on the backing file.


def backing(file: EnclaveFile) -> Backing:
    """The file of evicted pages."""
    assert file.encl.paging.backing is not None
    return file.encl.paging.backing


def ends(world: World, file: EnclaveFile, other: EnclaveFile, page: int) -> None:
    """The page is refused, the enclave with it, and the other enclave goes on."""
    before = file.encl.state.children
    outcome = file.encl.load_page(at(page))
    assert outcome.errno == errno.EFAULT
    assert outcome.reason is not None
    assert outcome.reason.rule == "ELDU succeeds"
    assert outcome.reason.cause is not None
    assert outcome.reason.cause.operation == "ELDU"
    assert not file.encl.store.frame_map[page]
    assert file.encl.state.children == before
    for again in range(PAGES):
        assert file.encl.load_page(at(again)).errno == errno.EFAULT, "no page of it is loaded any more"
    assert other.encl.ensure_resident(at(n) for n in range(PAGES)).ok
    assert all(intact(other, n, 1) for n in range(PAGES))
    for each in (file, other):
        each.close()
    assert world.cpu.epc.free_count == 1024
    assert not world.driver.leaked


@pytest.fixture
def pair(world: World) -> tuple[EnclaveFile, EnclaveFile]:
    """Two enclaves of whose pages all but one are out."""
    files = build(world), build(world, tag=1)
    keep = [at(PAGES - 1)]
    world.driver.reclaimer.reclaim(100)
    for file in files:
        assert file.encl.ensure_resident(keep).ok
    return files


def test_a_bit_of_a_page(world: World, pair: tuple[EnclaveFile, EnclaveFile]) -> None:
    backing(pair[0]).page(2)[1234] ^= 0x10
    ends(world, *pair, 2)


@pytest.mark.parametrize("byte", [0, 1, 9, 80, 112, 127])
def test_a_bit_of_a_pcmd(world: World, pair: tuple[EnclaveFile, EnclaveFile], byte: int) -> None:
    backing(pair[0]).pcmd(2).buffer[byte] ^= 4
    ends(world, *pair, 2)


def test_a_bit_of_a_version(world: World, pair: tuple[EnclaveFile, EnclaveFile]) -> None:
    va = np.frombuffer(world.cpu.page(pair[0].encl.va_pages[0]), np.uint64)
    va[va != 0] ^= np.uint64(1 << 40)
    ends(world, *pair, 2)


def test_an_old_version_of_the_page(world: World, pair: tuple[EnclaveFile, EnclaveFile]) -> None:
    file = pair[0]
    old = bytes(backing(file).page(2)), bytes(backing(file).pcmd(2).buffer)
    assert file.encl.ensure_resident([at(2)]).ok
    world.driver.reclaimer.reclaim(100)
    assert file.encl.paging.is_evicted(2)
    assert bytes(backing(file).page(2)) != old[0], "no two evictions of a page are alike"
    backing(file).page(2)[:], backing(file).pcmd(2).buffer[:] = old
    ends(world, *pair, 2)


def swap(one: EnclaveFile, first: int, two: EnclaveFile, second: int) -> None:
    """Exchange two evicted pages, PCMD and all."""
    for of in ("page", "pcmd"):
        views = [getattr(backing(file), of)(page) for file, page in ((one, first), (two, second))]
        a, b = (view.buffer if isinstance(view, Pcmd) else view for view in views)
        a[:], b[:] = bytes(b), bytes(a)


def test_two_pages_in_each_other_s_place(world: World, pair: tuple[EnclaveFile, EnclaveFile]) -> None:
    swap(pair[0], 2, pair[0], 3)
    ends(world, *pair, 2)


def test_a_page_of_another_enclave(world: World, pair: tuple[EnclaveFile, EnclaveFile]) -> None:
    view, pcmd = backing(pair[1]).page(2), backing(pair[1]).pcmd(2)
    backing(pair[0]).page(2)[:] = view
    backing(pair[0]).pcmd(2).buffer[:] = pcmd.buffer
    ends(world, *pair, 2)


def test_a_secs_that_was_changed(world: World, pair: tuple[EnclaveFile, EnclaveFile]) -> None:
    file = pair[0]
    world.driver.reclaimer.reclaim(100)
    assert file.encl.secs is None
    backing(file).page(SIZE // PAGE_SIZE)[100] ^= 1
    ends(world, *pair, 2)


def test_a_spoilt_page_further_on_lets_those_before_it_load(
    world: World, pair: tuple[EnclaveFile, EnclaveFile]
) -> None:
    file = pair[0]
    backing(file).page(3)[0] ^= 1
    for page in range(3):
        outcome = file.encl.load_page(at(page))
        assert outcome.ok, "what was not asked for does not matter"
        assert intact(file, page)
    assert file.encl.load_page(at(3)).errno == errno.EFAULT


# Figures.


def test_figures_tell_what_happened(world: World) -> None:
    file = build(world)
    evict(world, file, 3)
    figures = world.driver.figures()
    (one,) = figures.enclaves
    assert (figures.epc_total, figures.epc_free) == (1024, world.cpu.epc.free_count)
    assert (one.resident, one.evicted, one.va_pages, one.secs_resident) == (PAGES - 3, 3, 1, True)
    assert (figures.ewb, figures.eldu, figures.faults, figures.reclaimable) == (3, 0, 0, PAGES - 3)
    assert (one.base, one.size, one.initialised, one.debug) == (file.encl.base, file.encl.size, True, True)
    assert (one.augmented, figures.eaug, one.tcs) == (0, 0, 0)
    assert file.encl.load_page(at(2)).ok
    world.driver.reclaimer.reclaim(100)
    figures = world.driver.figures()
    assert (figures.ewb, figures.eldu, figures.faults) == (3 + 6 + 1, 1, 1)
    assert not figures.enclaves[0].secs_resident
