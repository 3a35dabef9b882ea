"""REMOVE_PAGES, row by row: linux-driver.md 6.4. What all SGX2 ioctls share is in test_restrict_permissions.py."""

from __future__ import annotations

import errno

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.linux.failures import FailurePoint
from swsgx.native.abi import EpcmState, VmaBits
from tests.make.running import NEW, TO_TRIM, Running
from tests.make.world import World, make_world


def trim(running: Running, first: int, count: int, *, accepted: bool = True) -> None:
    assert running.modify(first, count, PageType.TRIM)[0].value == 0
    for page in range(first, first + count if accepted else first):
        assert running.accept(TO_TRIM, page) == 0


@pytest.mark.parametrize("inside", [0, 1])
def test_trimmed_and_accepted_pages_are_holes_again(running: Running, inside: int) -> None:
    running.enter(inside)
    encl, bits = running.encl, running.world.mm.mappings[running.encl].bits
    free, pages, va_pages = running.cpu.epc.free_count, encl.page_count, list(encl.va_pages)
    children = running.cpu.enclaves[encl.secs or 0].children
    trim(running, 2, 3)
    bits[2:5] |= int(VmaBits.PRESENT)
    outcome, back = running.remove(2, 3)
    assert (outcome.value, back["count"]) == (0, 3 * PAGE_SIZE)
    for page in (2, 3, 4):
        assert running.entry(page) is None
        assert (encl.page_type[page], encl.max_prot[page]) == (0, 0)
        assert not bits[page] & VmaBits.PRESENT
        assert not any(encl.store.page(page * PAGE_SIZE))
    assert running.cpu.epc.free_count == free + 3
    assert (encl.page_count, encl.va_pages) == (pages - 3, va_pages)
    assert running.cpu.enclaves[encl.secs or 0].children == children - 3


def test_the_next_page_there_is_a_new_one_that_may_be_mapped_rwx(running: Running) -> None:
    trim(running, 1, 1)
    assert running.remove(1, 1)[0].value == 0
    assert running.accept(NEW, 1) == 0
    assert running.entry(1) == (PageType.REG, 3, EpcmState.VALID)
    assert not any(running.encl.store.page(PAGE_SIZE))
    assert running.encl.max_prot[1] == 7


def test_a_tcs_goes_like_any_page(running: Running) -> None:
    trim(running, 7, 1)
    assert running.remove(7, 1)[0].value == 0
    assert not running.cpu.enclaves[running.encl.secs or 0].tcs


@pytest.mark.parametrize("page", [1, 7])
def test_a_page_that_is_not_trimmed_stays(running: Running, page: int) -> None:
    before = running.state()
    running.world.refused(running.remove(page, 1)[0], errno.EPERM, "the page is trimmed")
    assert running.state() == before


def test_a_trimmed_page_that_was_not_accepted_stays(running: Running) -> None:
    trim(running, 1, 1, accepted=False)
    before = running.state()
    outcome, back = running.remove(1, 1)
    running.world.refused(outcome, errno.EPERM, "the enclave has accepted that the page is trimmed")
    assert outcome.reason is not None
    assert outcome.reason.cause is not None
    assert outcome.reason.cause.operation == "EMODPR"
    assert back["count"] == 0
    assert running.state() == before


def test_a_probe_that_faults_otherwise_proves_nothing(running: Running) -> None:
    trim(running, 1, 1)
    page = running.cpu.epc.address(int(running.encl.store.frame_map[1]) - 1)
    with running.cpu.lock(page):
        running.world.refused(running.remove(1, 1)[0], errno.EPERM, "the enclave has accepted")
    assert running.remove(1, 1)[0].value == 0


def test_a_page_on_its_way_out_is_busy(running: Running) -> None:
    trim(running, 1, 1)
    running.world.driver.failures.arm(FailurePoint.RECLAIMED, errno.EBUSY)
    running.world.refused(running.remove(1, 1)[0], errno.EBUSY, "the page stays in the EPC")
    assert running.remove(1, 1)[0].value == 0


def test_pages_before_the_one_that_stops_it_are_gone(running: Running) -> None:
    trim(running, 1, 4)
    running.modify(5, 1, PageType.TRIM)
    outcome, back = running.remove(1, 5)
    running.world.refused(outcome, errno.EPERM, "the enclave has accepted")
    assert back["count"] == 4 * PAGE_SIZE
    assert [running.entry(page) is None for page in range(1, 6)] == [True] * 4 + [False]


def test_a_hole_among_pages_stops_it(running: Running) -> None:
    trim(running, 1, 5)
    assert running.remove(4, 1)[0].value == 0
    outcome, back = running.remove(1, 5)
    running.world.refused(outcome, errno.EFAULT, "a page was added at the offset")
    assert back["count"] == 3 * PAGE_SIZE
    assert running.entry(5) is not None


def test_a_page_whose_epcm_entry_waits_stays_among_others(running: Running) -> None:
    trim(running, 1, 4)
    running.cpu.epcm[int(running.encl.store.frame_map[3]) - 1].state |= EpcmState.MODIFIED
    outcome, back = running.remove(1, 4)
    running.world.refused(outcome, errno.EPERM, "the enclave has accepted")
    assert back["count"] == 2 * PAGE_SIZE
    assert [running.entry(page) is None for page in range(1, 5)] == [True, True, False, False]


def test_one_by_one_and_all_at_once_leave_the_same(world: World) -> None:
    states = []
    for count in (1, 4):
        running = Running(make_world(world.driver.profile))
        trim(running, 1, 4)
        for first in range(1, 5, count):
            assert running.remove(first, count)[0].value == 0
        states.append((*running.state(), bytes(running.cpu.epcm.region.view)))
    assert states[0] == states[1]


def test_an_enclave_with_holes_and_new_pages_leaves_nothing_behind(running: Running) -> None:
    trim(running, 1, 3)
    assert running.remove(1, 2)[0].value == 0
    assert running.accept(NEW, 9) == 0
    running.modify(4, 1, PageType.TCS)
    running.world.mm.exit()
    running.file.close()
    assert running.cpu.epc.free_count == running.cpu.epc.frames
    assert not running.world.driver.leaked
