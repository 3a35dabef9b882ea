"""CREATE, row by row: linux-driver.md 2.3 and, for series v23, 12.2."""

from __future__ import annotations

import errno

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.structs import Secs
from swsgx.linux import uapi
from swsgx.linux.failures import FailurePoint
from swsgx.linux.outcome import ERESTARTSYS
from swsgx.linux.profile import PROFILES, V23, Profile
from tests.make.world import BASE, SIZE, World, a_secs, make_world

ALL = pytest.mark.parametrize("name", ["6.12", "6.1", "v23"])
#: Nothing is mapped here.
NOWHERE = 0xDEAD_0000


def argument(src: int) -> uapi.EnclaveCreate:
    return uapi.EnclaveCreate.of(src=src)


@ALL
def test_create_records_the_enclave(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.open()
    outcome = world.create(file)
    encl = file.encl
    assert outcome.value == 0
    assert (encl.base, encl.size, encl.attributes, encl.xfrm) == (BASE, SIZE, 6, 3)
    assert (encl.created, encl.initialised, encl.debug) == (True, False, True)
    assert encl.store.contents.size == SIZE
    assert world.cpu.epcm[encl.secs or 0].pt == PageType.SECS
    assert [world.cpu.epcm[frame].pt for frame in encl.va_pages] == [PageType.VA]
    assert encl.page_count == 1


@pytest.mark.parametrize(("name", "allowed"), [("6.12", 0x486), ("6.1", 0x86), ("v23", 0x86)])
def test_the_attributes_that_create_allows(name: str, allowed: int) -> None:
    world = make_world(PROFILES[name])
    file = world.open()
    world.create(file)
    assert file.encl.allowed == allowed


def test_the_secs_may_lie_at_any_address(world: World) -> None:
    base = world.memory.map(b"\xff" + bytes(a_secs()))
    outcome = world.ioctl(world.open(), uapi.SGX_IOC_ENCLAVE_CREATE, argument(base + 1))
    assert outcome.value == 0


def test_nothing_is_written_back(world: World) -> None:
    src = world.memory.put(a_secs())
    arg = world.memory.put(argument(src))
    world.memory.read_only |= {int(src), int(arg)}
    assert world.open().ioctl(world.task, uapi.SGX_IOC_ENCLAVE_CREATE, arg).value == 0


@ALL
def test_row_1_created_before_is_einval(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.open()
    world.create(file)
    world.refused(world.create(file), errno.EINVAL, "CREATE was not done before")


@pytest.mark.parametrize("name", ["6.12", "6.1"])
def test_upstream_looks_at_the_state_before_the_pointer(name: str) -> None:
    world = make_world(PROFILES[name])
    file = world.open()
    world.create(file)
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_CREATE, NOWHERE)
    world.refused(outcome, errno.EINVAL, "CREATE was not done before")


def test_v23_reads_the_secs_before_it_looks_at_the_state() -> None:
    world = make_world(V23)
    file = world.open()
    world.create(file)
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_CREATE, NOWHERE)
    world.refused(outcome, errno.EFAULT, "the argument is readable")
    outcome = world.ioctl(file, uapi.SGX_IOC_ENCLAVE_CREATE, argument(NOWHERE))
    world.refused(outcome, errno.EFAULT, "the SECS at src is readable")
    world.refused(world.create(file, a_secs(size=1)), errno.EINVAL, "CREATE was not done before")


@ALL
def test_row_2_an_unreadable_argument_is_efault(name: str) -> None:
    world = make_world(PROFILES[name])
    outcome = world.open().ioctl(world.task, uapi.SGX_IOC_ENCLAVE_CREATE, NOWHERE)
    world.refused(outcome, errno.EFAULT, "the argument is readable")


@ALL
def test_row_3_without_memory_for_the_copy_is_enomem(name: str) -> None:
    world = make_world(PROFILES[name])
    world.driver.failures.arm(FailurePoint.COPY_BUFFER, errno.ENOMEM)
    outcome = world.ioctl(world.open(), uapi.SGX_IOC_ENCLAVE_CREATE, argument(NOWHERE))
    world.refused(outcome, errno.ENOMEM, "memory for a copy of the SECS")


@ALL
@pytest.mark.parametrize("short", [0, 1])
def test_row_4_an_unreadable_secs_is_efault(name: str, short: int) -> None:
    world = make_world(PROFILES[name])
    src = world.memory.put(a_secs()) + short if short else NOWHERE
    outcome = world.ioctl(world.open(), uapi.SGX_IOC_ENCLAVE_CREATE, argument(src))
    world.refused(outcome, errno.EFAULT, "the SECS at src is readable")


@pytest.mark.parametrize("name", ["6.12", "6.1"])
@pytest.mark.parametrize("size", [0, 3, 0x3000, (1 << 64) - 1])
def test_row_5_a_size_that_is_no_power_of_two_is_einval(name: str, size: int) -> None:
    world = make_world(PROFILES[name])
    before = world.snapshot()
    world.refused(world.create(world.open(), a_secs(size=size)), errno.EINVAL, "SECS.SIZE is a power of two")
    assert world.snapshot() == before


@ALL
@pytest.mark.parametrize("number", [errno.ENOMEM, ERESTARTSYS])
@pytest.mark.parametrize("point", [FailurePoint.VA_BOOKKEEPING, FailurePoint.VA_PAGE])
def test_row_6_without_a_va_page_is_its_errno(name: str, point: FailurePoint, number: int) -> None:
    world = make_world(PROFILES[name])
    world.driver.failures.arm(point, number)
    file, before = world.open(), world.snapshot()
    outcome = world.create(file)
    assert outcome.errno == number
    assert world.snapshot() == before
    assert world.create(file).ok


@ALL
def test_row_6_a_fault_of_epa_is_efault(name: str) -> None:
    world = make_world(PROFILES[name])
    file, free = world.open(), world.cpu.epc.free_count
    with world.cpu.lock(world.cpu.epc.address(0)):
        outcome = world.create(file)
    world.refused(outcome, errno.EFAULT, "EPA makes a VA page")
    assert outcome.reason is not None
    assert outcome.reason.cause is not None
    assert outcome.reason.cause.operation == "EPA"
    assert world.cpu.epc.free_count == free


@ALL
def test_row_7_without_a_backing_file_is_its_errno(name: str) -> None:
    world = make_world(PROFILES[name])
    world.driver.failures.arm(FailurePoint.BACKING, errno.ENFILE)
    file, before = world.open(), world.snapshot()
    world.refused(world.create(file), errno.ENFILE, "a backing file")
    assert (world.snapshot(), file.encl.va_pages) == (before, [])


@ALL
@pytest.mark.parametrize("number", [errno.ENOMEM, ERESTARTSYS])
def test_row_8_without_an_epc_page_for_the_secs_is_its_errno(name: str, number: int) -> None:
    world = make_world(PROFILES[name])
    world.driver.failures.arm(FailurePoint.SECS_PAGE, number)
    file, before = world.open(), world.snapshot()
    world.refused(world.create(file), number, "an EPC page is free")
    assert (world.snapshot(), file.encl.va_pages) == (before, [])
    assert world.create(file).ok


@ALL
@pytest.mark.parametrize("pages", [0, 1])
def test_rows_6_and_8_an_epc_that_is_full_is_enomem(name: str, pages: int) -> None:
    world = make_world(PROFILES[name], epc_pages=4)
    world.cpu.epc.allocate_run(4 - pages)
    file = world.open()
    world.refused(world.create(file), errno.ENOMEM, "an EPC page is free")
    assert world.cpu.epc.free_count == pages


@pytest.mark.parametrize("name", ["6.12", "6.1"])
@pytest.mark.parametrize(
    ("secs", "rule"),
    [
        (a_secs(size=0x1000), "at least two pages"),
        (a_secs(baseaddr=BASE + 0x1000), "SECS.BASEADDR is a multiple"),
        (a_secs(xfrm=1), "SECS.XFRM"),
        (a_secs(ssaframesize=0), "an SSA frame"),
        (a_secs(miscselect=2), "SECS.MISCSELECT"),
        (a_secs(attributes=Attributes.INIT | Attributes.MODE64BIT), "SECS.ATTRIBUTES"),
        (a_secs(reserved_262=b"\1" + bytes(3833)), "SECS reserved bytes"),
    ],
)
def test_row_9_a_fault_of_ecreate_is_eio(name: str, secs: Secs, rule: str) -> None:
    world = make_world(PROFILES[name])
    file, before = world.open(), world.snapshot()
    outcome = world.create(file, secs)
    world.refused(outcome, errno.EIO, "ECREATE does not fault")
    assert outcome.reason is not None
    assert outcome.reason.cause is not None
    assert rule in outcome.reason.cause.rule
    assert world.snapshot() == before
    assert not file.encl.created
    assert world.create(file).ok


def test_row_9_of_v23_is_the_positive_number_of_the_fault() -> None:
    world = make_world(V23)
    file, before = world.open(), world.snapshot()
    with world.cpu.lock(world.cpu.epc.address(1)):
        outcome = world.create(file)
    assert outcome.value == 0x4000_000D
    assert outcome.reason is not None
    assert outcome.reason.rule == "ECREATE does not fault"
    assert not file.encl.created
    # EREMOVE finds the page in use, too, so it is lost, as in Linux.
    assert world.driver.leaked == [1]
    assert world.snapshot() == (before[0] - 1, *before[1:])


@pytest.mark.parametrize(
    ("secs", "rule"),
    [
        (a_secs(size=0x3000), "SECS.SIZE is a power of two"),
        (a_secs(size=0x1000), "SECS.SIZE is a power of two"),
        (a_secs(size=0), "SECS.SIZE is a power of two"),
        (a_secs(baseaddr=BASE + 0x1000), "SECS.BASEADDR is a multiple"),
        (a_secs(miscselect=2), "SECS.MISCSELECT is supported"),
        (a_secs(attributes=1 << 3), "SECS.ATTRIBUTES has no reserved bit"),
        (a_secs(attributes=4 | Attributes.AEXNOTIFY), "SECS.ATTRIBUTES has no reserved bit"),
        (a_secs(xfrm=3 | 1 << 9 | 1 << 17), "SECS.XFRM is supported"),
        (a_secs(size=1 << 56, baseaddr=0), "SECS.SIZE is below"),
        (a_secs(size=1 << 31, baseaddr=0, attributes=0), "SECS.SIZE is below"),
        (a_secs(xfrm=1), "SECS.XFRM has x87 and SSE"),
        (a_secs(ssaframesize=0), "SECS.SSAFRAMESIZE holds a frame"),
        (a_secs(reserved_160=b"\1" + bytes(31)), "SECS reserved bytes are zero"),
    ],
)
def test_v23_validates_the_secs_itself(secs: Secs, rule: str) -> None:
    world = make_world(V23)
    world.refused(world.create(world.open(), secs), errno.EINVAL, rule)


def test_upstream_assigns_the_allowed_attributes_and_v23_adds_to_them(upstream: Profile) -> None:
    for profile, kept in ((upstream, 0), (V23, 0x10)):
        world = make_world(profile)
        file = world.open()
        file.encl.allowed = 0x10
        world.create(file)
        assert file.encl.allowed & 0x10 == kept


def test_upstream_checks_arguments_in_this_order(upstream: Profile) -> None:
    world = make_world(upstream, epc_pages=4)
    world.cpu.epc.allocate_run(4)
    file = world.open()
    world.driver.failures.arm(FailurePoint.COPY_BUFFER, errno.ENOMEM, after=0)
    bad = world.memory.put(a_secs(size=3))
    assert file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_CREATE, NOWHERE).errno == errno.EFAULT
    assert world.ioctl(file, uapi.SGX_IOC_ENCLAVE_CREATE, argument(NOWHERE)).errno == errno.ENOMEM
    assert world.ioctl(file, uapi.SGX_IOC_ENCLAVE_CREATE, argument(NOWHERE)).errno == errno.EFAULT
    assert world.ioctl(file, uapi.SGX_IOC_ENCLAVE_CREATE, argument(bad)).errno == errno.EINVAL
    world.driver.failures.arm(FailurePoint.BACKING, errno.ENFILE)
    assert world.create(file, a_secs(xfrm=0)).errno == errno.ENOMEM
    world.cpu.epc.free(0)
    assert world.create(file, a_secs(xfrm=0)).errno == errno.ENFILE
    assert world.create(file, a_secs(xfrm=0)).errno == errno.ENOMEM
    world.cpu.epc.free(1)
    assert world.create(file, a_secs(xfrm=0)).errno == errno.EIO
    assert world.create(file).value == 0


def test_a_range_that_the_host_cannot_hold_is_enomem(world: World) -> None:
    file, before = world.open(), world.snapshot()
    world.refused(world.create(file, a_secs(size=1 << 50, baseaddr=0)), errno.ENOMEM, "the host can hold")
    assert world.snapshot() == before


def test_a_large_range_costs_nothing(world: World) -> None:
    file = world.open()
    assert world.create(file, a_secs(size=1 << 40, baseaddr=0)).ok
    assert file.encl.store.contents.size == 1 << 40
    file.close()


def test_the_pages_of_two_enclaves_are_apart(world: World) -> None:
    first, second = world.built(), world.built()
    assert first.encl.secs != second.encl.secs
    assert bytes(first.encl.store.page(0)) == b"\x90" * PAGE_SIZE
    first.close()
    assert bytes(second.encl.store.page(0)) == b"\x90" * PAGE_SIZE
