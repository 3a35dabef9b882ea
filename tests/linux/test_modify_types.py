"""MODIFY_TYPES, row by row: linux-driver.md 6.3. What all SGX2 ioctls share is in test_restrict_permissions.py."""

from __future__ import annotations

import errno

import pytest

from swsgx.cpu.tracking import CountedThreads
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.linux import uapi
from swsgx.linux.failures import FailurePoint
from swsgx.linux.mm import AddressSpace
from swsgx.native.abi import EpcmState, VmaBits
from tests.make.running import CODES, NEW, TO_TCS, TO_TRIM, Running
from tests.make.world import World, make_world

MODIFIED = EpcmState.VALID | EpcmState.MODIFIED
PRESENT = VmaBits.PRESENT


def touch(running: Running, *mms: AddressSpace) -> None:
    """All pages have page-table entries."""
    for mm in mms:
        mm.mappings[running.encl].bits[:] |= int(PRESENT)


def present(running: Running, mm: AddressSpace, page: int) -> bool:
    return bool(mm.mappings[running.encl].bits[page] & PRESENT)


def test_regular_pages_become_tcss_and_their_page_table_entries_go_everywhere(running: Running) -> None:
    other = AddressSpace()
    running.map(other)
    touch(running, running.world.mm, other)
    running.encl.max_prot[2] = 7
    outcome, back = running.modify(1, 3, PageType.TCS)
    assert (outcome.value, back["result"], back["count"]) == (0, 0, 3 * PAGE_SIZE)
    for page in (1, 2, 3):
        assert running.entry(page) == (PageType.TCS, 0, MODIFIED)
        assert running.effective(page) == 0
        assert (running.encl.page_type[page], running.encl.max_prot[page]) == (PageType.TCS, 3)
        assert not present(running, running.world.mm, page)
        assert not present(running, other, page)
        assert running.accept(TO_TCS, page) == 0
    assert present(running, other, 4)
    other.exit()


def test_trimmed_pages_stay_mapped_and_keep_their_ceiling(running: Running) -> None:
    touch(running, running.world.mm)
    outcome, back = running.modify(5, 3, PageType.TRIM)
    assert (outcome.value, back["result"], back["count"]) == (0, 0, 3 * PAGE_SIZE)
    for page, ceiling in ((5, 3), (6, 5), (7, 3)):
        assert running.entry(page) == (PageType.TRIM, 0, MODIFIED)
        assert running.effective(page, ceiling) == 0
        assert (running.encl.page_type[page], running.encl.max_prot[page]) == (PageType.TRIM, ceiling)
        assert present(running, running.world.mm, page)


@pytest.mark.parametrize("kind", [0x100, 0x104, 1 << 63])
def test_page_type_has_8_bits_which_is_looked_at_before_outputs(running: Running, kind: int) -> None:
    running.world.refused(running.modify(1, 1, kind, count=1)[0], errno.EINVAL, "page_type has 8 bits")


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 0xFF])
def test_only_tcs_and_trim_are_possible_which_is_looked_at_after_outputs(running: Running, kind: int) -> None:
    world = running.world
    world.refused(running.modify(1, 1, kind, count=1)[0], errno.EINVAL, "count is 0 on entry")
    world.refused(running.modify(1, 1, kind)[0], errno.EINVAL, "page_type is TCS or TRIM")


def test_the_argument_goes_back_for_a_type_that_is_not_possible(running: Running) -> None:
    world = running.world
    arg = world.memory.put(uapi.EnclaveModifyTypes.of(offset=PAGE_SIZE, length=PAGE_SIZE, page_type=2))
    world.memory.read_only.add(arg)
    code = CODES[uapi.EnclaveModifyTypes]
    world.refused(running.file.ioctl(world.task, code, arg), errno.EFAULT, "the argument is writable")


@pytest.mark.parametrize(("page", "kind"), [(7, PageType.TCS), (8, PageType.TCS), (8, PageType.TRIM)])
def test_other_changes_are_einval(running: Running, page: int, kind: PageType) -> None:
    if page == 8:
        assert running.accept(NEW, page) == 0
        assert running.modify(page, 1, PageType.TRIM)[0].value == 0
    before = running.state()
    outcome, back = running.modify(page, 1, kind)
    running.world.refused(outcome, errno.EINVAL, f"the page's type can become {kind.name}")
    assert (back["result"], back["count"]) == (0, 0)
    assert running.state() == before


def test_a_tcs_needs_a_ceiling_with_r_and_w(running: Running) -> None:
    outcome, back = running.modify(4, 3, PageType.TCS)
    running.world.refused(outcome, errno.EPERM, "a page that becomes a TCS may be mapped R and W")
    assert back["count"] == 2 * PAGE_SIZE
    assert running.entry(6) == (PageType.REG, 5, EpcmState.VALID)


def test_a_page_on_its_way_out_cannot_become_a_tcs_now(running: Running) -> None:
    running.encl.max_prot[1] = 7
    before = running.state()
    running.world.driver.failures.arm(FailurePoint.RECLAIMED, errno.EBUSY)
    running.world.refused(running.modify(1, 1, PageType.TCS)[0], errno.EAGAIN, "the page stays in the EPC")
    assert running.state() == before


@pytest.mark.parametrize("kind", [PageType.TCS, PageType.TRIM])
def test_a_page_that_waits_stops_it_with_the_leafs_code_and_keeps_its_ceiling(
    running: Running, kind: PageType
) -> None:
    assert running.accept(NEW, 8) == 0
    assert running.accept(NEW, 9) == 0
    running.cpu.epcm[int(running.encl.store.frame_map[9]) - 1].state |= EpcmState.PENDING
    outcome, back = running.modify(8, 2, kind)
    running.world.refused(outcome, errno.EFAULT, "EMODT gives no error code")
    assert (back["result"], back["count"]) == (20, PAGE_SIZE)
    assert (running.encl.page_type[9], running.encl.max_prot[9]) == (PageType.REG, 7)


def test_a_fault_of_the_leaf_has_no_code(running: Running) -> None:
    running.encl.max_prot[1] = 7
    running.cpu.epcm[int(running.encl.store.frame_map[1]) - 1].pt = int(PageType.TRIM)
    outcome, back = running.modify(1, 1, PageType.TCS)
    running.world.refused(outcome, errno.EFAULT, "EMODT does not fault")
    assert (back["result"], back["count"], running.encl.max_prot[1]) == (0, 0, 7)


def test_a_page_whose_etrack_fails_keeps_its_type_in_the_drivers_books(running: Running) -> None:
    class Deaf(CountedThreads):
        def interrupt(self, state: object) -> None:
            pass

    running.enter()
    running.cpu.tracker = Deaf(running.cpu.threads_inside)
    outcome, back = running.modify(1, 2, PageType.TRIM)
    running.world.refused(outcome, errno.EFAULT, "ETRACK succeeds behind an interrupt")
    assert back["count"] == PAGE_SIZE
    assert running.entry(2) == (PageType.TRIM, 0, MODIFIED)
    assert running.encl.page_type[2] == PageType.REG
    # Nothing but EMODT can tell, and does.
    running.cpu.tracker = CountedThreads(running.cpu.threads_inside)
    running.world.refused(running.modify(2, 1, PageType.TRIM)[0], errno.EFAULT, "EMODT does not fault")
    running.enter(0)
    assert running.modify(3, 2, PageType.TRIM)[0].value == 0


@pytest.mark.parametrize("inside", [0, 1])
def test_what_it_did_is_always_tracked(running: Running, inside: int) -> None:
    running.enter(inside)
    assert running.modify(1, 3, PageType.TRIM)[0].value == 0
    assert [running.accept(TO_TRIM, page) for page in (1, 2, 3)] == [0, 0, 0]


@pytest.mark.parametrize("kind", [PageType.TCS, PageType.TRIM])
def test_one_by_one_and_all_at_once_leave_the_same(world: World, kind: PageType) -> None:
    states = []
    for count in (1, 4):
        running = Running(make_world(world.driver.profile))
        touch(running, running.world.mm)
        for first in range(1, 5, count):
            assert running.modify(first, count, kind)[0].value == 0
        bits = running.world.mm.mappings[running.encl].bits.tolist()
        states.append((*running.state()[1:], bytes(running.cpu.epcm.region.view), bits))
    assert states[0] == states[1]


def test_a_thread_enters_by_a_tcs_that_was_made_and_it_cannot_be_restricted(running: Running) -> None:
    assert running.modify(1, 1, PageType.TCS)[0].value == 0
    running.world.refused(running.restrict(1, 1, 0)[0], errno.EINVAL, "the page is a regular one")
    assert running.accept(TO_TCS, 1) == 0
    running.encl.store.page(0x1000)[0] = 1
    assert running.cpu.threads_inside(running.encl.secs or 0) == 1
    assert running.modify(1, 1, PageType.TRIM)[0].value == 0
    assert running.cpu.threads_inside(running.encl.secs or 0) == 1
