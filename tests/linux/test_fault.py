"""Page faults in an enclave's mapping, row by row: linux-driver.md 5.1 and 5.2; and leaves that meet them."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import PageFaultCode, PageType, SecinfoFlags, secinfo_flags
from swsgx.isa.leaves import Enclu
from swsgx.linux.device import EnclaveFile
from swsgx.linux.encl import VA_SLOTS
from swsgx.linux.failures import FailurePoint
from swsgx.linux.fault import FaultAction, Resolution, augment, resolve
from swsgx.linux.mm import AddressSpace
from swsgx.linux.outcome import OK
from swsgx.linux.profile import PROFILES, V23
from swsgx.native.abi import EpcmState, VmaBits
from tests.make.running import NEW, RESTRICTED, TO_TCS, TO_TRIM, Running, run
from tests.make.world import BASE, REG_R, REG_RW, REG_RWX, World, a_secs, make_world

U, W, P, SGX = PageFaultCode.U, PageFaultCode.W, PageFaultCode.P, PageFaultCode.SGX
FETCH = U | PageFaultCode.I
WAITING = (PageType.REG, 3, EpcmState.VALID | EpcmState.PENDING)


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def refused(world: World, found: Resolution, action: FaultAction, rule: str) -> None:
    assert found.action is action
    assert not found.resolved
    assert found.reason is not None
    assert rule in found.reason.rule


# The kernel, before the driver.


@pytest.mark.parametrize("page", [1, 8])
def test_with_the_sgx_bit_it_is_a_segv_whatever_else(running: Running, page: int) -> None:
    before = running.state()
    for address in (at(page), 0x1000):
        found = resolve(running.world.mm, address, U | P | SGX)
        refused(running.world, found, FaultAction.SEGV_ACCERR, "the EPCM allows the access")
    assert running.state() == before


def test_without_a_mapping_it_is_a_maperr(running: Running) -> None:
    found = resolve(running.world.mm, at(6), U)
    refused(running.world, found, FaultAction.SEGV_MAPERR, "a mapping covers the address")


@pytest.mark.parametrize(
    ("prot", "code"), [(1, U | W), (4, U | W), (0, U), (0, U | W), (0, FETCH), (3, U | P), (3, FETCH | P)]
)
def test_what_the_mapping_forbids_is_an_accerr_and_adds_no_page(
    running: Running, prot: int, code: PageFaultCode
) -> None:
    world = running.world
    assert world.mm.mprotect(at(8), PAGE_SIZE, prot).ok
    before = running.state()
    refused(world, resolve(world.mm, at(8), code), FaultAction.SEGV_ACCERR, "the mapping allows the access")
    assert running.state() == before


@pytest.mark.parametrize("code", [U, U | W, FETCH])
def test_a_page_that_exists_gets_a_page_table_entry(running: Running, code: PageFaultCode) -> None:
    before = running.state()
    assert resolve(running.world.mm, at(1) + 8, code).resolved
    assert running.state() == before
    assert running.world.mm.mappings[running.encl].bits[1] & VmaBits.PRESENT


# The driver: holes.


@pytest.mark.parametrize("code", [U, U | W, FETCH])
def test_a_touched_hole_becomes_a_zero_page_that_waits(running: Running, code: PageFaultCode) -> None:
    encl, count = running.encl, running.encl.page_count
    assert resolve(running.world.mm, at(8) + 0x123, code).resolved
    assert running.entry(8) == WAITING
    assert (encl.page_type[8], encl.max_prot[8], encl.page_count) == (PageType.REG, 7, count + 1)
    assert running.effective(8) == 0
    assert running.world.mm.mappings[encl].bits[8] & VmaBits.PRESENT
    assert running.world.mm.mprotect(at(8), PAGE_SIZE, 7).ok


def test_the_second_touch_is_an_epcm_fault_until_it_is_accepted(running: Running) -> None:
    world = running.world
    assert resolve(world.mm, at(8), U | W).resolved
    assert running.effective(8) == 0
    assert running.accept(NEW, 8) == 0
    assert running.effective(8) == 3


def test_another_process_finds_the_page(running: Running) -> None:
    other = AddressSpace()
    running.map(other)
    assert running.accept(NEW, 8) == 0
    count = running.encl.page_count
    assert resolve(other, at(8), U).resolved
    assert running.encl.page_count == count
    other.exit()


def test_without_sgx2_a_hole_is_a_sigbus() -> None:
    world = make_world(model=CpuModel.with_sgx1(epc_size=64 * PAGE_SIZE))
    file = world.initialised()
    world.map(file, 0x8000, PAGE_SIZE, 3)
    before = world.snapshot()
    refused(world, resolve(world.mm, at(8), U), FaultAction.SIGBUS, "a page was added at the address")
    assert world.snapshot() == before


def test_before_init_a_hole_is_a_sigbus_and_a_page_is_there(world: World) -> None:
    file = world.built()
    world.map(file, 0x1000, 0x2000, 3)
    world.map(file, 0x8000, PAGE_SIZE, 3)
    refused(world, resolve(world.mm, at(8), U), FaultAction.SIGBUS, "pages appear after INIT only")
    assert resolve(world.mm, at(1), U).resolved


def test_before_create_and_outside_the_range_there_is_nothing(world: World) -> None:
    file = world.open()
    world.map(file, 0, PAGE_SIZE, 1)
    world.map(file, -PAGE_SIZE, PAGE_SIZE, 1)
    refused(world, resolve(world.mm, BASE, U), FaultAction.SIGBUS, "pages appear after INIT only")
    world.create(file)
    world.init(file)
    refused(world, resolve(world.mm, BASE - PAGE_SIZE, U), FaultAction.SIGBUS, "EAUG does not fault")


def test_v23_has_pages_after_init_only_and_looks_at_no_ceiling() -> None:
    world = make_world(V23)
    file = world.built()
    world.map(file, 0x1000, 0x1000, 3)
    refused(world, resolve(world.mm, at(1), U), FaultAction.SIGBUS, "the enclave is initialised")
    world.init(file)
    assert resolve(world.mm, at(1), U).resolved
    file.encl.max_prot[1] = 1
    assert resolve(world.mm, at(1), U).resolved


def test_v23_adds_no_page() -> None:
    world = make_world(V23)
    file = world.initialised()
    world.map(file, 0x1000, 0x1000, 3)
    file.encl.page_type[1] = 0
    refused(world, resolve(world.mm, at(1), U), FaultAction.SIGBUS, "a page was added at the address")


@pytest.mark.parametrize("code", [U, U | W, FETCH])
def test_a_mapping_wider_than_the_ceiling_is_a_sigbus_on_any_touch(world: World, code: PageFaultCode) -> None:
    file = world.open()
    world.map(file, 0, PAGE_SIZE, 3)
    world.create(file)
    world.add(file, 0, bytes(PAGE_SIZE), REG_R)
    world.init(file)
    refused(world, resolve(world.mm, BASE, code), FaultAction.SIGBUS, "not wider than the page's ceiling")


def test_a_mapping_that_fork_could_not_record_is_a_sigbus(running: Running) -> None:
    running.world.driver.failures.arm(FailurePoint.MM_LIST, errno.ENOMEM)
    child = running.world.mm.fork()
    refused(running.world, resolve(child, at(1), U), FaultAction.SIGBUS, "the mapping has an enclave")
    child.exit()


@pytest.fixture
def full() -> Iterator[Running]:
    """As ``running``, with nowhere for evicted pages."""
    world = make_world(backing_pages=0)
    yield from run(world)
    world.cpu.close()


def test_no_epc_is_a_sigbus(full: Running) -> None:
    running = full
    taken = running.cpu.epc.allocate_run(running.cpu.epc.free_count)
    before = running.state()
    refused(running.world, resolve(running.world.mm, at(8), U), FaultAction.SIGBUS, "an EPC page is free")
    assert running.state() == before
    running.cpu.epc.free(taken)
    assert resolve(running.world.mm, at(8), U).resolved


def test_no_memory_for_the_record_of_a_page_is_the_killers_business(running: Running) -> None:
    running.world.driver.failures.arm(FailurePoint.PAGE_BOOKKEEPING, errno.ENOMEM)
    found = resolve(running.world.mm, at(8), U)
    refused(running.world, found, FaultAction.OOM, "memory for the record of a page")


def test_a_fault_of_eaug_is_a_sigbus_and_gives_back_what_was_taken(running: Running) -> None:
    before = running.state()
    with running.cpu.lock(running.encl.secs_address):
        found = resolve(running.world.mm, at(8), U)
    refused(running.world, found, FaultAction.SIGBUS, "EAUG does not fault")
    assert running.state() == before


def test_a_va_page_is_made_when_it_is_due(world: World) -> None:
    big = 4 * VA_SLOTS * PAGE_SIZE
    file = many(world, big)
    encl = file.encl
    assert augment(encl, 1, VA_SLOTS - 2) == (VA_SLOTS - 2, OK)
    assert (encl.page_count, len(encl.va_pages)) == (VA_SLOTS, 1)
    before = world.snapshot()
    world.driver.failures.arm(FailurePoint.VA_PAGE, errno.ENOMEM)
    found = resolve(world.mm, BASE + VA_SLOTS * PAGE_SIZE, U)
    refused(world, found, FaultAction.SIGBUS, "an EPC page is free")
    assert world.snapshot() == before
    assert resolve(world.mm, BASE + VA_SLOTS * PAGE_SIZE, U).resolved
    assert len(encl.va_pages) == 2


# Ahead.


def many(world: World, size: int) -> EnclaveFile:
    """A large enclave with one page."""
    file = world.open()
    for outcome in (
        world.create(file, a_secs(size=size, baseaddr=BASE)),
        world.add(file, 0, bytes(PAGE_SIZE), REG_RWX)[0],
        world.init(file),
        world.map(file, 0, size, 3),
    ):
        assert outcome.ok, outcome.reason
    return file


def test_pages_are_added_ahead_up_to_the_first_that_exists(running: Running) -> None:
    assert augment(running.encl, 8, 3)[0] == 3
    assert augment(running.encl, 8, 3)[0] == 0
    assert augment(running.encl, 11, 100)[0] == 5
    assert [running.entry(page) for page in range(8, 16)] == [WAITING] * 8
    assert running.effective(8) == 0
    figures = running.world.driver.figures()
    assert figures.eaug == figures.enclaves[0].augmented == 8


def test_ahead_and_one_by_one_leave_the_same(world: World) -> None:
    states = []
    for count in (1, 8):
        running = Running(make_world(world.driver.profile))
        for first in range(8, 16, count):
            assert augment(running.encl, first, count)[0] == count
        states.append((*running.state(), bytes(running.cpu.epcm.region.view)))
    assert states[0] == states[1]


def test_what_does_not_fit_into_the_epc_is_not_added() -> None:
    world = make_world(epc_pages=2 * VA_SLOTS, backing_pages=0)
    file = many(world, 4 * VA_SLOTS * PAGE_SIZE)
    free = world.cpu.epc.free_count
    added, outcome = augment(file.encl, 1, 4 * VA_SLOTS)
    assert outcome.errno == errno.ENOMEM
    assert added == free - 1  # one became a VA page
    assert world.cpu.epc.free_count == 0
    assert file.encl.page_count == 2 + added


# Leaves.


def test_eaccept_of_a_hole_adds_the_page_by_itself(running: Running) -> None:
    assert running.accept(NEW, 8) == 0
    assert running.entry(8) == (PageType.REG, 3, EpcmState.VALID)


def test_eacceptcopy_of_a_hole_does_so_too(running: Running) -> None:
    running.encl.store.page(0x1000)[:] = b"x" * PAGE_SIZE
    done = running.execute(Enclu.EACCEPTCOPY, secinfo_flags(PageType.REG, 5), 8, 1)
    assert done.result is not None
    assert done.result.ok
    assert running.entry(8) == (PageType.REG, 5, EpcmState.VALID)
    assert bytes(running.encl.store.page(0x8000)) == b"x" * PAGE_SIZE
    assert running.world.mm.mprotect(at(8), PAGE_SIZE, 5).ok
    assert running.effective(8, 5) == 5


def test_emodpe_says_nothing_and_gives_permissions_at_once(running: Running) -> None:
    assert running.restrict(1, 1, 1)[0].value == 0
    assert running.accept(RESTRICTED | 1, 1) == 0
    done = running.execute(Enclu.EMODPE, int(SecinfoFlags.R | SecinfoFlags.W), 1)
    assert (done.result, done.fault, done.resolution) == (None, None, None)
    assert running.effective(1) == 3


@pytest.mark.parametrize(
    ("page", "code", "action"),
    [(6, U, FaultAction.SEGV_MAPERR), (8, U, FaultAction.SIGBUS)],
)
def test_an_operand_that_no_page_can_be_had_for(
    full: Running, page: int, code: PageFaultCode, action: FaultAction
) -> None:
    running = full
    running.cpu.epc.allocate_run(running.cpu.epc.free_count)
    done = running.execute(Enclu.EACCEPT, NEW, page)
    assert done.fault is not None
    assert (done.fault.error_code, done.fault.address) == (int(code), at(page))
    assert done.fault.reason.operation == "EACCEPT"
    assert done.resolution is not None
    assert done.resolution.action is action


def test_a_write_to_a_read_only_mapping_depends_on_whether_it_was_touched(running: Running) -> None:
    assert running.world.mm.mprotect(at(8), PAGE_SIZE, 1).ok
    for code in (U | W, U | W | P):
        done = running.execute(Enclu.EACCEPTCOPY, REG_RW, 8, 1)
        assert done.fault is not None
        assert done.fault.error_code == int(code)
        assert done.resolution is not None
        assert done.resolution.action is FaultAction.SEGV_ACCERR
        assert resolve(running.world.mm, at(8), U).resolved


def test_an_epcm_fault_of_a_leaf_is_the_threads_own(running: Running) -> None:
    assert running.modify(1, 1, PageType.TRIM)[0].ok
    done = running.execute(Enclu.EMODPE, 3, 1)
    assert done.fault is not None
    assert done.fault.error_code == 0x8005
    assert done.resolution is not None
    assert done.resolution.action is FaultAction.SEGV_ACCERR


def test_a_gp_of_a_leaf_needs_no_kernel(running: Running) -> None:
    done = running.execute(Enclu.EACCEPT, REG_RW, 1)
    assert done.fault is not None
    assert done.resolution is None


def test_an_operand_outside_the_range_is_a_gp(running: Running) -> None:
    done = running.execute(Enclu.EMODPE, 3, 1 << 40)
    assert done.fault is not None
    assert done.resolution is None


def test_out_of_memory_is_tried_again(running: Running) -> None:
    running.world.driver.failures.arm(FailurePoint.PAGE_BOOKKEEPING, errno.ENOMEM)
    assert running.accept(NEW, 8) == 0


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_the_story_of_a_new_thread(name: str) -> None:
    """The kernel's own test: stack, TCS and SSA are added, made, used, trimmed, removed, and a page is there again."""
    running = Running(make_world(PROFILES[name])) if PROFILES[name].sgx2 else None
    if running is None:
        return
    for page in (8, 10, 9):
        assert running.accept(NEW, page) == 0
    running.encl.store.page(9 * PAGE_SIZE)[28] = 1  # NSSA
    assert running.modify(9, 1, PageType.TCS)[1]["count"] == PAGE_SIZE
    assert running.accept(TO_TCS, 9) == 0
    assert running.modify(8, 3, PageType.TRIM)[1]["count"] == 3 * PAGE_SIZE
    assert [running.accept(TO_TRIM, page) for page in (8, 9, 10)] == [0, 0, 0]
    assert running.remove(8, 3)[1]["count"] == 3 * PAGE_SIZE
    assert running.accept(NEW, 9) == 0
    assert running.effective(9) == 3
