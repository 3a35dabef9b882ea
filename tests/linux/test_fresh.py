"""EACCEPT of a page that is not there yet: in one go it gives what it gives step by step, or nothing is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.structs import Secinfo
from swsgx.linux.fresh import Reserved, accept_fresh, reserve
from swsgx.native.abi import VmaBits
from swsgx.trace import OFF
from tests.make.running import NEW, RESTRICTED, Running, run
from tests.make.world import BASE, make_world

PAGE = 8
SECINFO = BASE + 64


@pytest.fixture
def quiet(running: Running) -> Running:
    """Nobody listens, so that nothing need be told step by step."""
    running.world.driver.trace = OFF
    running.encl.store.page(0)[64:128] = bytes(Secinfo.of(flags=NEW).buffer)
    # The page of the SECINFO was touched.
    mapping(running).bits[0] |= VmaBits.PRESENT
    return running


@pytest.fixture
def stepwise() -> Iterator[Running]:
    """The same enclave in another world, with a trace."""
    world = make_world()
    yield from run(world)
    world.cpu.close()


def mapping(running: Running):  # type: ignore[no-untyped-def]
    return running.world.mm.mappings[running.encl]


def fresh(running: Running, secinfo: int = SECINFO, page: int = BASE + PAGE * PAGE_SIZE) -> bool:
    return accept_fresh(running.encl, mapping(running), secinfo, page)


def everything(running: Running) -> tuple[object, ...]:
    encl = running.encl
    pages = range(PAGE, PAGE + 3)
    return (
        [running.entry(page) for page in pages],
        [running.effective(page) for page in pages],
        encl.page_type.tobytes(),
        encl.max_prot.tobytes(),
        encl.page_count,
        encl.augmented,
        encl.listed.tobytes(),
        encl.state.children,
        running.cpu.epc.free_count,
        len(running.world.driver.reclaimer),
        bytes(encl.store.page(PAGE * PAGE_SIZE)),
        (mapping(running).bits[PAGE : PAGE + 3] & int(VmaBits.PRESENT)).tolist(),
    )


def test_it_gives_what_the_steps_give(quiet: Running, stepwise: Running) -> None:
    for page in (PAGE, PAGE + 2):
        assert quiet.accept(NEW, page) == 0
        assert stepwise.accept(NEW, page) == 0
    assert everything(quiet) == everything(stepwise)


def test_it_was_done_in_one_go(quiet: Running) -> None:
    assert fresh(quiet)
    assert quiet.entry(PAGE) is not None


def test_a_page_that_was_removed_is_zero_again(quiet: Running) -> None:
    quiet.encl.store.page(PAGE * PAGE_SIZE)[:8] = b"leftover"
    assert fresh(quiet)
    assert not any(quiet.encl.store.page(PAGE * PAGE_SIZE))


def _another_request(running: Running) -> None:
    running.encl.store.page(0)[64:128] = bytes(Secinfo.of(flags=RESTRICTED).buffer)


def _reserved_byte(running: Running) -> None:
    running.encl.store.page(0)[100] = 1


def _untouched_secinfo(running: Running) -> None:
    mapping(running).bits[0] &= ~int(VmaBits.PRESENT) & 0xFF


def _no_access(running: Running) -> None:
    assert running.world.mm.mprotect(BASE + PAGE * PAGE_SIZE, PAGE_SIZE, 0).ok


def _little_epc(running: Running) -> None:
    epc = running.cpu.epc
    epc.allocate_run(epc.free_count - running.world.driver.reclaimer.low)


def _no_room_for_versions(running: Running) -> None:
    running.encl.page_count = 512


def _traced(running: Running) -> None:
    running.world.driver.trace = running.cpu.trace


@pytest.mark.parametrize(
    "odd",
    [
        _another_request,
        _reserved_byte,
        _untouched_secinfo,
        _no_access,
        _little_epc,
        _no_room_for_versions,
        _traced,
    ],
    ids=lambda odd: odd.__name__.strip("_"),
)
def test_what_is_not_plain_is_left_to_the_steps(odd: Callable[[Running], None], quiet: Running) -> None:
    odd(quiet)
    before = quiet.state()
    assert not fresh(quiet)
    assert quiet.state() == before


@pytest.mark.parametrize(
    ("secinfo", "page"),
    [
        (SECINFO + 8, BASE + PAGE * PAGE_SIZE),
        (SECINFO, BASE + PAGE * PAGE_SIZE + 64),
        (SECINFO, BASE + PAGE_SIZE),
        (SECINFO, BASE - PAGE_SIZE),
        (SECINFO, BASE + (1 << 40)),
        (BASE + PAGE * PAGE_SIZE, BASE + PAGE * PAGE_SIZE),
        (BASE + 0x7000, BASE + PAGE * PAGE_SIZE),
    ],
    ids=["secinfo unaligned", "page unaligned", "a page", "below", "above", "itself", "in a TCS"],
)
def test_operands_that_are_not_plain_are_left_to_the_steps(secinfo: int, page: int, quiet: Running) -> None:
    before = quiet.state()
    assert not fresh(quiet, secinfo, page)
    assert quiet.state() == before


# Pages that are reserved, and accepted by the enclave itself.


def reserved(running: Running, most: int = 6) -> Reserved:
    found = reserve(running.encl, mapping(running), PAGE, most)
    assert found is not None
    return found


def test_reserved_pages_have_epc_and_are_in_no_table(quiet: Running) -> None:
    before, free = quiet.state(), quiet.cpu.epc.free_count
    found = reserved(quiet)
    assert (len(found), quiet.cpu.epc.free_count) == (6, free - 6)
    found.shrink(0)
    assert quiet.state() == before


def test_accepted_ones_are_what_the_steps_give(quiet: Running, stepwise: Running) -> None:
    found = reserved(quiet)
    assert found.shrink(3)
    found.accepted()
    for page in range(PAGE, PAGE + 3):
        assert stepwise.accept(NEW, page) == 0
    assert everything(quiet) == everything(stepwise)
    assert quiet.world.driver.figures().eaug == stepwise.world.driver.figures().eaug


def test_what_was_not_accepted_holds_no_memory(quiet: Running) -> None:
    found = reserved(quiet)
    quiet.encl.store.page(PAGE * PAGE_SIZE)[:4] = b"left"
    found.shrink(0)
    assert not any(quiet.encl.store.page(PAGE * PAGE_SIZE))


def test_a_page_that_exists_ends_them(quiet: Running) -> None:
    assert quiet.accept(NEW, PAGE + 5) == 0
    assert len(reserved(quiet)) == 5


def test_the_room_for_versions_ends_them(quiet: Running) -> None:
    quiet.encl.page_count = 512 - 5
    assert len(reserved(quiet)) == 5


def test_the_end_of_the_mapping_ends_them(quiet: Running) -> None:
    assert quiet.world.mm.mprotect(BASE + (PAGE + 4) * PAGE_SIZE, PAGE_SIZE, 1).ok
    assert len(reserved(quiet)) == 4


def test_pages_of_an_enclave_that_has_ended_are_free_again(quiet: Running) -> None:
    found, total = reserved(quiet), quiet.cpu.epc.frames
    quiet.encl.release()
    found.accepted()
    assert quiet.cpu.epc.free_count == total


def test_short_epc_takes_them_back(quiet: Running) -> None:
    found = reserved(quiet)
    driver = quiet.world.driver
    driver.recall = lambda: found.shrink(0)
    epc = quiet.cpu.epc
    taken = epc.allocate_run(epc.free_count)
    assert not driver.reclaimer.hopeless(driver.reclaimer.moves)
    assert epc.free_count == 6
    epc.free(taken)


def _two_processes(running: Running) -> None:
    running.encl.mappings.append(running.encl.mappings[0])


@pytest.mark.parametrize(
    "odd",
    [_no_access, _little_epc, _no_room_for_versions, _traced, _two_processes],
    ids=lambda odd: odd.__name__.strip("_"),
)
def test_where_somebody_could_tell_nothing_is_reserved(
    odd: Callable[[Running], None], quiet: Running
) -> None:
    odd(quiet)
    before = quiet.state()
    assert reserve(quiet.encl, mapping(quiet), PAGE, 6) is None
    assert quiet.state() == before
