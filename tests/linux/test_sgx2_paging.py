"""Enclaves that change while pages of theirs are out of the EPC: linux-driver.md 5.1, 6 and 7 together."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from swsgx.cpu.epc import Frames
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageFaultCode, PageType, SecinfoFlags, secinfo_flags
from swsgx.isa.leaves import Enclu
from swsgx.linux.fault import FaultAction, augment, resolve
from swsgx.linux.mm import AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.native.abi import EpcmState, VmaBits
from tests.make.running import NEW, RESTRICTED, TO_TCS, TO_TRIM, Running, run
from tests.make.world import BASE, make_world

U, W = PageFaultCode.U, PageFaultCode.U | PageFaultCode.W
PRESENT = VmaBits.PRESENT
#: Pages of :class:`Running`.
PAGES = 8
KINDS: dict[str, Callable[[Running, int, int], tuple[Outcome, dict[str, int]]]] = {
    "restrict": lambda running, first, count: running.restrict(first, count, 1),
    "to TCS": lambda running, first, count: running.modify(first, count, PageType.TCS),
    "to TRIM": lambda running, first, count: running.modify(first, count, PageType.TRIM),
}
kinds = pytest.mark.parametrize("kind", sorted(KINDS))


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def evict(running: Running, *pages: int) -> None:
    """Have pages of the only enclave evicted; by default all, and the SECS."""
    reclaimer, encl = running.world.driver.reclaimer, running.encl
    wanted = set(pages or np.flatnonzero(encl.page_type).tolist())
    kept = [page for page in np.flatnonzero(encl.listed).tolist() if page not in wanted]
    for page in kept:
        assert reclaimer.unlist(encl, page, 1)
    reclaimer.reclaim(1000)
    reclaimer.enlist(encl, np.array(kept, np.int64))
    assert all(encl.paging.is_evicted(page) for page in wanted)
    assert (encl.secs is None) == (not pages)


def block(running: Running, *pages: int) -> None:
    """Pages on their way out, that do not get there: a process would not let go of them."""
    running.world.driver.shootdown = lambda encl: False
    encl, reclaimer = running.encl, running.world.driver.reclaimer
    kept = [page for page in np.flatnonzero(encl.listed).tolist() if page not in pages]
    for page in kept:
        assert reclaimer.unlist(encl, page, 1)
    assert reclaimer.reclaim(1000) == 0
    reclaimer.enlist(encl, np.array(kept, np.int64))
    assert encl.paging.blocked(np.array(pages)).all()


def spoil(running: Running, page: int) -> None:
    backing = running.encl.paging.backing
    assert backing is not None
    backing.page(page)[7] ^= 1


def fill(running: Running, page: int, value: bytes) -> bytes:
    running.encl.store.page(page * PAGE_SIZE)[:] = value * PAGE_SIZE
    return value * PAGE_SIZE


def contents(running: Running, page: int) -> bytes:
    return bytes(running.encl.store.page(page * PAGE_SIZE))


def present(running: Running, page: int, mm: AddressSpace | None = None) -> bool:
    chosen = mm if mm is not None else running.world.mm
    return bool(chosen.mappings[running.encl].bits[page] & PRESENT)


def leave_free(running: Running, count: int) -> Frames:
    """Have others use all of the EPC but ``count`` pages; which they use."""
    epc = running.cpu.epc
    return epc.allocate_run(epc.free_count - count)


# Faults.


def test_a_fault_loads_an_evicted_page_and_its_secs(running: Running) -> None:
    data = fill(running, 2, b"2")
    evict(running)
    assert not present(running, 2)
    assert resolve(running.world.mm, at(2), U).resolved
    assert contents(running, 2) == data
    assert running.encl.secs is not None
    assert present(running, 2)
    assert running.effective(2) == 3
    assert running.world.driver.figures().faults == 1


def test_a_page_that_a_fault_loaded_can_be_evicted_again(running: Running) -> None:
    data = fill(running, 2, b"2")
    for _ in range(3):
        evict(running)
        assert resolve(running.world.mm, at(2), W).resolved
        assert running.encl.listed[2]
    assert contents(running, 2) == data


def test_a_loaded_page_appears_in_all_address_spaces_but_has_an_entry_in_one(running: Running) -> None:
    told: list[tuple[int, int]] = []

    class Telling(AddressSpace):
        def sync(self, mapping: object, start: int, end: int) -> None:
            told.append((start, end))

    other = Telling()
    running.map(other)
    evict(running, 2)
    told.clear()
    assert resolve(running.world.mm, at(2), U).resolved
    assert (at(2), at(3)) in told
    assert not present(running, 2, other)
    other.exit()


def test_a_fault_reclaims_what_it_needs(running: Running) -> None:
    data = fill(running, 2, b"2")
    evict(running, 2)
    leave_free(running, 0)
    assert resolve(running.world.mm, at(2), U).resolved
    assert contents(running, 2) == data


def test_a_fault_in_a_hole_reclaims_what_it_needs(running: Running) -> None:
    leave_free(running, 0)
    assert resolve(running.world.mm, at(8), U).resolved
    assert running.entry(8) is not None
    assert running.encl.paging.evicted


def test_a_page_is_added_to_an_enclave_whose_secs_is_out(running: Running) -> None:
    evict(running)
    assert resolve(running.world.mm, at(8), U).resolved
    assert running.entry(8) == (PageType.REG, 3, EpcmState.VALID | EpcmState.PENDING)


def test_pages_are_added_ahead_though_others_must_leave_for_them() -> None:
    world = make_world(epc_pages=16)
    running = Running(world)
    world.driver.wake = lambda: None
    assert augment(running.encl, 8, 8)[0] == 8
    assert running.encl.paging.evicted
    assert augment(running.encl, 8, 8) == (0, Outcome(0))
    assert running.encl.page_count == 1 + PAGES + 8
    world.cpu.close()


def test_a_secs_that_came_back_stays_for_the_page_that_found_no_room() -> None:
    world = make_world(epc_pages=32)
    running, other = Running(world), world.initialised()
    data = fill(running, 2, b"2")
    evict(running)
    assert other.encl.secs is None
    others = leave_free(running, 1)
    assert resolve(world.mm, at(2), U).action is FaultAction.SIGBUS
    assert running.encl.secs is not None
    world.cpu.epc.free(others[:1])
    assert resolve(world.mm, at(2), U).resolved
    assert contents(running, 2) == data


def test_without_room_for_it_an_evicted_page_is_a_sigbus(running: Running) -> None:
    evict(running)
    leave_free(running, 0)
    found = resolve(running.world.mm, at(2), U)
    assert found.action is FaultAction.SIGBUS
    assert found.reason is not None
    assert "an EPC page is free" in found.reason.rule


def test_a_page_that_is_being_written_out_faults_until_it_is(running: Running) -> None:
    data = fill(running, 2, b"2")
    block(running, 2)
    assert resolve(running.world.mm, at(2), U).action is FaultAction.RETRY
    assert not present(running, 2)
    running.world.driver.shootdown = lambda encl: True
    assert resolve(running.world.mm, at(2), U).action is FaultAction.RETRY
    assert present(running, 2)
    assert contents(running, 2) == data


def test_a_page_that_is_taken_from_the_list_gets_no_entry(running: Running) -> None:
    assert running.world.driver.reclaimer.unlist(running.encl, 2, 1)
    assert resolve(running.world.mm, at(2), U).action is FaultAction.RETRY
    assert not present(running, 2)
    running.world.driver.reclaimer.enlist(running.encl, np.array([2]))
    assert resolve(running.world.mm, at(2), U).action is FaultAction.RETRY
    assert present(running, 2)


def test_a_mapping_wider_than_the_ceiling_loads_nothing(running: Running) -> None:
    evict(running, 2)
    running.encl.max_prot[2] = 1
    assert resolve(running.world.mm, at(2), U).action is FaultAction.SIGBUS
    assert running.encl.paging.is_evicted(2)


@pytest.mark.parametrize("page", [2, 16])
def test_a_page_that_is_not_what_was_written_is_a_sigbus(running: Running, page: int) -> None:
    evict(running)
    spoil(running, page)  # 16: the SECS
    found = resolve(running.world.mm, at(2), U)
    assert found.action is FaultAction.SIGBUS
    assert found.reason is not None
    assert found.reason.cause is not None
    assert found.reason.cause.operation == "ELDU"
    assert resolve(running.world.mm, at(8), U).action is FaultAction.SIGBUS
    running.world.mm.exit()
    running.file.close()
    assert running.cpu.epc.free_count == running.cpu.epc.frames


# Leaves.


def test_a_leaf_brings_back_its_operands_and_the_secs(running: Running) -> None:
    data = fill(running, 1, b"1")
    assert running.restrict(2, 1, 1)[0].value == 0
    assert resolve(running.world.mm, at(8), U).resolved
    evict(running)
    assert running.accept(RESTRICTED | 1, 2) == 0
    assert running.entry(2) == (PageType.REG, 1, EpcmState.VALID)
    evict(running)
    done = running.execute(Enclu.EACCEPTCOPY, secinfo_flags(PageType.REG, 3), 8, 1)
    assert done.result is not None
    assert done.result.ok
    assert contents(running, 8) == data
    evict(running)
    assert running.execute(Enclu.EMODPE, int(SecinfoFlags.R | SecinfoFlags.W), 2).fault is None
    assert running.effective(2) == 3


def test_eaccept_makes_a_page_though_all_others_are_out(running: Running) -> None:
    evict(running)
    assert running.accept(NEW, 8) == 0


def test_what_waits_for_its_eaccept_does_so_behind_a_reload(running: Running) -> None:
    assert running.modify(1, 1, PageType.TCS)[0].ok
    assert running.modify(2, 1, PageType.TRIM)[0].ok
    evict(running)
    assert running.accept(TO_TCS, 1) == 0
    evict(running)
    assert running.accept(TO_TRIM, 2) == 0
    evict(running)
    assert running.remove(2, 1)[0].value == 0


def test_an_operand_that_is_being_written_out_has_no_entry_and_is_tried_later(running: Running) -> None:
    assert running.restrict(2, 1, 1)[0].value == 0
    running.world.mm.mappings[running.encl].bits[:] |= int(PRESENT)
    block(running, 2)
    running.world.mm.mappings[running.encl].bits[2] |= int(PRESENT)
    done = running.execute(Enclu.EACCEPT, RESTRICTED | 1, 2)
    assert done.fault is not None
    assert (done.fault.error_code, done.fault.address) == (int(U), at(2))
    assert done.resolution is not None
    assert done.resolution.action is FaultAction.RETRY
    running.world.driver.shootdown = lambda encl: True
    assert running.accept(RESTRICTED | 1, 2) == 0


@pytest.mark.parametrize("page", [0, 1])
def test_an_operand_that_cannot_come_back_is_a_sigbus(running: Running, page: int) -> None:
    assert running.accept(NEW, 8) == 0
    evict(running, 1)
    spoil(running, 1)
    done = running.execute(Enclu.EACCEPT, NEW, 1)
    assert done.resolution is not None
    assert done.resolution.action is FaultAction.SIGBUS


def test_a_secs_that_cannot_come_back_is_a_sigbus_of_the_leaf(running: Running) -> None:
    evict(running)
    leave_free(running, 0)
    running.encl.store.page(0)[64:66] = NEW.to_bytes(2, "little")
    running.encl.store.frame_map[0], before = 1, int(running.encl.store.frame_map[0])
    done = running.execute(Enclu.EACCEPT, NEW, 8)
    running.encl.store.frame_map[0] = before
    assert done.fault is not None
    assert done.resolution is not None
    assert done.resolution.action is FaultAction.SIGBUS


# ioctls.


@kinds
def test_an_ioctl_loads_its_pages_and_the_secs(running: Running, kind: str) -> None:
    data = fill(running, 2, b"2")
    evict(running)
    outcome, back = KINDS[kind](running, 1, 4)
    assert (outcome.value, back["count"]) == (0, 4 * PAGE_SIZE)
    assert contents(running, 2) == data
    assert running.encl.listed[1:5].all()


@kinds
@pytest.mark.parametrize("out", [(3,), (1, 2, 3, 4), (2, 4)])
def test_whatever_was_out_the_ioctl_leaves_the_same(kind: str, out: tuple[int, ...]) -> None:
    states = []
    for pages in ((), out):
        running = Running(make_world())
        if pages:
            evict(running, *pages)
        assert KINDS[kind](running, 1, 4)[0].value == 0
        entries = [running.entry(page) for page in range(PAGES)]
        encl = running.encl
        states.append((entries, encl.page_type.tolist(), encl.max_prot.tolist(), encl.listed.tolist()))
        running.cpu.close()
    assert states[0] == states[1]


def test_evicted_pages_are_removed(running: Running) -> None:
    assert running.modify(1, 4, PageType.TRIM)[0].ok
    for page in range(1, 5):
        assert running.accept(TO_TRIM, page) == 0
    evict(running, 2, 4)
    outcome, back = running.remove(1, 4)
    assert (outcome.value, back["count"]) == (0, 4 * PAGE_SIZE)
    encl = running.encl
    assert not any(encl.paging.is_evicted(page) for page in range(1, 5))
    assert (encl.paging.evicted, encl.paging.slots.used) == (0, 0)
    assert not encl.listed[1:5].any()
    assert len(running.world.driver.reclaimer) == PAGES - 4


def test_an_evicted_page_that_is_not_trimmed_is_loaded_before_it_is_refused(running: Running) -> None:
    evict(running, 2)
    running.world.refused(running.remove(2, 1)[0], errno.EPERM, "the page is trimmed")
    assert not running.encl.paging.is_evicted(2)


@pytest.mark.parametrize("kind", [*sorted(KINDS), "remove"])
def test_a_page_that_is_being_written_out_is_eagain(running: Running, kind: str) -> None:
    if kind == "remove":
        assert running.modify(1, 3, PageType.TRIM)[0].ok
        assert [running.accept(TO_TRIM, page) for page in (1, 2, 3)] == [0, 0, 0]
    block(running, 2)
    outcome, back = running.remove(1, 3) if kind == "remove" else KINDS[kind](running, 1, 3)
    running.world.refused(outcome, errno.EAGAIN, "the page is in the EPC")
    assert back["count"] == PAGE_SIZE
    running.world.driver.shootdown = lambda encl: True
    running.world.driver.reclaimer.balance()
    again = running.remove(2, 2) if kind == "remove" else KINDS[kind](running, 2, 2)
    assert again[0].value == 0


@pytest.mark.parametrize(("kind", "number"), [("to TCS", errno.EAGAIN), ("remove", errno.EBUSY)])
def test_a_page_that_the_reclaimer_has_chosen_is_busy_where_entries_would_go(
    running: Running, kind: str, number: int
) -> None:
    if kind == "remove":
        assert running.modify(1, 3, PageType.TRIM)[0].ok
        assert [running.accept(TO_TRIM, page) for page in (1, 2, 3)] == [0, 0, 0]
    running.encl.max_prot[1:4] = 7
    assert running.world.driver.reclaimer.unlist(running.encl, 2, 1)
    outcome, back = running.remove(1, 3) if kind == "remove" else KINDS[kind](running, 1, 3)
    running.world.refused(outcome, number, "the page stays in the EPC")
    assert back["count"] == PAGE_SIZE
    assert running.encl.max_prot[2] == 7
    assert running.entry(2) is not None


@kinds
def test_without_epc_for_it_an_evicted_page_is_eagain_if_some_can_be_had_later(
    running: Running, kind: str
) -> None:
    evict(running, 2)
    leave_free(running, 0)
    running.enter()  # keeps the reclaimer from the enclave
    outcome, back = KINDS[kind](running, 1, 2)
    running.world.refused(outcome, errno.EAGAIN, "the page is in the EPC")
    assert (back["result"], back["count"]) == (0, PAGE_SIZE)


@kinds
def test_without_any_epc_an_evicted_page_is_efault(running: Running, kind: str) -> None:
    evict(running)
    leave_free(running, 0)
    outcome, back = KINDS[kind](running, 1, 2)
    running.world.refused(outcome, errno.EFAULT, "the page can be loaded")
    assert back["count"] == 0


@pytest.mark.parametrize("page", [2, 16])
@kinds
def test_a_page_or_secs_that_is_not_what_was_written_is_efault(
    running: Running, kind: str, page: int
) -> None:
    evict(running)
    spoil(running, page)
    outcome, back = KINDS[kind](running, 1, 2)
    running.world.refused(outcome, errno.EFAULT, "the page can be loaded")
    assert (back["result"], back["count"]) == (0, 0 if page == 16 else PAGE_SIZE)


@kinds
def test_an_ioctl_makes_room_when_epc_is_short(running: Running, kind: str) -> None:
    world = make_world(epc_pages=64)
    running = Running(world)
    evict(running, 1, 2)
    reclaimer = world.driver.reclaimer
    leave_free(running, reclaimer.low - 1)
    assert KINDS[kind](running, 1, 2)[0].value == 0
    assert running.encl.paging.evicted > 0
    world.cpu.close()


def test_pages_that_are_to_become_tcss_are_not_evicted_while_their_entries_go(running: Running) -> None:
    evicted: list[int] = []

    class Reclaiming(AddressSpace):
        def zap(self, mapping: object, start: int, end: int) -> None:
            encl = running.encl
            if start == at(2) and not evicted:
                evicted.append(running.world.driver.reclaimer.reclaim(1000))
                assert encl.store.frame_map[2:5].all()
                assert resolve(running.world.mm, at(3), U).action is FaultAction.RETRY
                assert not present(running, 3)

    other = Reclaiming()
    running.map(other)
    outcome, back = running.modify(1, 4, PageType.TCS)
    assert (outcome.value, back["count"]) == (0, 4 * PAGE_SIZE)
    assert evicted == [PAGES - 3]
    assert running.encl.listed[2:5].all()
    other.exit()


def test_pages_that_are_removed_get_no_entry_while_theirs_go(running: Running) -> None:
    looked: list[FaultAction] = []

    class Faulting(AddressSpace):
        def zap(self, mapping: object, start: int, end: int) -> None:
            looked.append(resolve(running.world.mm, start, U).action)

    assert running.modify(1, 4, PageType.TRIM)[0].ok
    assert [running.accept(TO_TRIM, page) for page in (1, 2, 3, 4)] == [0, 0, 0, 0]
    other = Faulting()
    running.map(other)
    assert running.remove(1, 4)[0].value == 0
    assert looked == [FaultAction.RETRY] * 2
    assert not any(present(running, page) for page in (1, 2, 3, 4))
    other.exit()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["to TCS", "remove"])
def test_a_host_that_cannot_take_pages_away_is_enomem_and_nothing_changes(
    running: Running, kind: str, count: int
) -> None:
    if kind == "remove":
        assert running.modify(1, 3, PageType.TRIM)[0].ok
        assert [running.accept(TO_TRIM, page) for page in (1, 2, 3)] == [0, 0, 0]
    running.encl.max_prot[1:4] = 7

    @dataclass
    class Poor:
        after: int

        def zap(self, mapping: object, start: int, end: int) -> None:
            if not self.after:
                raise OSError(errno.ENOMEM, "too many mappings")
            self.after -= 1

    other = AddressSpace()
    running.map(other)
    poor = Poor(count - 1 and 1)
    other.zap = poor.zap  # type: ignore[method-assign]
    outcome, back = running.remove(1, 3) if kind == "remove" else running.modify(1, 3, PageType.TCS)
    running.world.refused(outcome, errno.ENOMEM, "the host can protect the pages")
    done = 1 if count > 1 else 0
    assert back["count"] == done * PAGE_SIZE
    assert running.encl.max_prot[1 + done : 4].tolist() == [7] * (3 - done)
    assert running.encl.listed[1 + done : 4].all()
    other.exit()


# Whoever holds a page.


def test_what_was_not_accepted_as_a_tcs_is_no_thread_behind_a_reload(running: Running) -> None:
    fill(running, 1, b"1")
    assert running.modify(1, 1, PageType.TCS)[0].ok
    evict(running)
    assert running.encl.load_page(at(1)).ok
    assert running.cpu.threads_inside(running.encl.secs or 0) == 0


def test_a_trimmed_tcs_that_is_evicted_is_no_thread_any_more(running: Running) -> None:
    assert running.modify(7, 1, PageType.TRIM)[0].ok
    evict(running)
    assert running.encl.load_page(at(0)).ok
    assert running.cpu.threads_inside(running.encl.secs or 0) == 0


def test_a_stuck_page_goes_on_when_an_ioctl_has_met_it(running: Running) -> None:
    block(running, 2)
    running.world.driver.shootdown = lambda encl: True
    assert running.restrict(2, 1, 1)[0].errno == errno.EAGAIN
    assert running.restrict(2, 1, 1)[0].value == 0


@kinds
def test_an_ioctls_interrupt_lets_no_page_go_that_a_thread_may_hold(running: Running, kind: str) -> None:
    data = fill(running, 5, b"5")
    running.enter()
    block(running, 5)
    assert KINDS[kind](running, 1, 2)[0].value == 0
    running.world.driver.reclaimer.balance()
    assert contents(running, 5) == data
    assert running.encl.store.frame_map[5]
    running.world.driver.shootdown = lambda encl: True
    running.world.driver.reclaimer.balance()
    assert running.encl.paging.is_evicted(5)


@pytest.fixture
def running() -> Iterator[Running]:
    """An initialised enclave that is mapped, alone on a machine."""
    world = make_world()
    yield from run(world)
    world.cpu.close()
