"""What series v23 of October 2019 does differently: linux-driver.md 12.2."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.structs import Secinfo
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.mm import (
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from swsgx.linux.outcome import ERESTARTSYS, Outcome
from swsgx.linux.profile import UPSTREAM_6_12, V23
from swsgx.linux.task import READ_IMPLIES_EXEC
from tests.make.world import BASE, REG_R, REG_RW, REG_RX, SIZE, TCS, World, a_tcs, make_world

NOWHERE = 0xDEAD_0000


@pytest.fixture
def world() -> Iterator[World]:
    made = make_world(V23)
    yield made
    made.cpu.close()


@pytest.fixture
def file(world: World) -> EnclaveFile:
    opened = world.open()
    assert world.create(opened).ok
    return opened


def raw(world: World, file: EnclaveFile, **values: int) -> tuple[Outcome, uapi.EnclaveAddPagesV23]:
    good = {
        "src": world.memory.put(bytes(PAGE_SIZE)),
        "offset": 0,
        "length": PAGE_SIZE,
        "secinfo": world.memory.put(Secinfo.of(flags=REG_RW)),
        "flags": 0,
    }
    arg = world.memory.put(uapi.EnclaveAddPagesV23.of(**(good | values)))
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_ADD_PAGES_V23, arg)
    return outcome, uapi.EnclaveAddPagesV23(world.memory.read(arg, 40))


# ADD_PAGES.


def test_the_callers_structure_is_advanced(world: World, file: EnclaveFile) -> None:
    src = world.memory.put(bytes(3 * PAGE_SIZE))
    outcome, back = raw(world, file, src=src, offset=0x1000, length=3 * PAGE_SIZE)
    assert (outcome.value, back.src, back.offset, back.length) == (0, src + 0x3000, 0x4000, 0)


def test_it_is_advanced_on_an_error_too(world: World, file: EnclaveFile) -> None:
    src = world.memory.map(bytes(2 * PAGE_SIZE))
    outcome, back = raw(world, file, src=src, length=3 * PAGE_SIZE)
    assert (outcome.errno, back.src, back.offset, back.length) == (errno.EFAULT, src + 0x2000, 0x2000, 0x1000)


def test_a_signal_is_always_erestartsys_and_the_rest_can_go_on(world: World) -> None:
    file = world.open()
    world.create(file)
    assert world.add(file, 0, bytes(PAGE_SIZE))[0].ok
    file.encl.page_count = 511
    pending = [False, True]
    world.task.signal_pending = lambda: pending.pop(0)
    src = world.memory.put(bytes(4 * PAGE_SIZE))
    outcome, back = raw(world, file, src=src, offset=0x1000, length=4 * PAGE_SIZE)
    assert (outcome.errno, back.length) == (ERESTARTSYS, 3 * PAGE_SIZE)
    world.task.signal_pending = lambda: False
    outcome, back = raw(world, file, src=back.src, offset=back.offset, length=back.length)
    assert (outcome.value, back.length) == (0, 0)


def test_checks_are_in_v23s_order(world: World) -> None:
    file = world.open()
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_ADD_PAGES_V23, NOWHERE)
    world.refused(outcome, errno.EINVAL, "CREATE was done")
    world.create(file)
    outcome = file.ioctl(world.task, uapi.SGX_IOC_ENCLAVE_ADD_PAGES_V23, NOWHERE)
    world.refused(outcome, errno.EFAULT, "the argument is readable")
    top = 0x7FFF_FFFF_F000
    bad = world.memory.put(Secinfo.of(flags=0))
    steps: list[tuple[dict[str, int], int, str]] = [
        (
            {"src": top + 1, "offset": 1, "length": 1, "secinfo": NOWHERE},
            errno.EINVAL,
            "offset is page aligned",
        ),
        ({"src": top + 1, "length": 1, "secinfo": NOWHERE}, errno.EINVAL, "src is page aligned"),
        ({"src": top, "length": 1, "secinfo": NOWHERE}, errno.EFAULT, "src is an address of user space"),
        ({"offset": SIZE, "length": 1, "secinfo": NOWHERE}, errno.EINVAL, "length is page aligned"),
        ({"offset": (1 << 64) - PAGE_SIZE, "secinfo": NOWHERE}, errno.EINVAL, "wrap"),
        ({"offset": SIZE, "secinfo": NOWHERE}, errno.EINVAL, "inside the enclave"),
        ({"secinfo": NOWHERE}, errno.EFAULT, "SECINFO is readable"),
        ({"secinfo": bad}, errno.EINVAL, "page type"),
    ]
    for values, number, rule in steps:
        outcome, _ = raw(world, file, **values)
        world.refused(outcome, number, rule)


def test_a_length_of_0_does_nothing(world: World, file: EnclaveFile) -> None:
    outcome, back = raw(world, file, length=0)
    assert (outcome.value, back.length) == (0, 0)


def test_after_init_it_is_efault_for_the_page(world: World) -> None:
    file = world.initialised()
    outcome, back = raw(world, file, offset=0x8000)
    world.refused(outcome, errno.EFAULT, "INIT was not done")
    assert back.length == PAGE_SIZE
    outcome, _ = raw(world, file, offset=0x8001)
    world.refused(outcome, errno.EINVAL, "offset is page aligned")


def test_a_second_page_is_eexist(world: World, file: EnclaveFile) -> None:
    assert raw(world, file)[0].ok
    outcome, _ = raw(world, file)
    world.refused(outcome, errno.EEXIST, "no page was added at the offset")


@pytest.mark.parametrize(
    ("flags", "refused"), [(REG_R, False), (REG_RW, False), (TCS, False), (REG_RX, True)]
)
def test_a_noexec_source_is_refused_for_executable_pages(
    world: World, file: EnclaveFile, flags: int, refused: bool
) -> None:
    src = world.memory.map(bytes(a_tcs()), may_exec=False)
    outcome, _ = raw(world, file, src=src, secinfo=world.memory.put(Secinfo.of(flags=flags)))
    if refused:
        world.refused(outcome, errno.EACCES, "may become executable")
    else:
        assert outcome.ok


def test_a_fault_of_eadd_is_efault_and_the_enclave_lives(world: World, file: EnclaveFile) -> None:
    src = world.memory.put(a_tcs(prevssp=b"\1" * 8))
    outcome, _ = raw(world, file, src=src, secinfo=world.memory.put(Secinfo.of(flags=TCS)))
    world.refused(outcome, errno.EFAULT, "EADD does not fault")
    assert raw(world, file)[0].ok


def spoil_eextend(world: World, file: EnclaveFile) -> Outcome:
    """An ADD_PAGES in which EADD works and EEXTEND faults."""
    looks, genuine = [0], world.cpu.is_measuring

    def busy_at_the_second_look(frame: int) -> bool:
        looks[0] += 1
        return looks[0] > 1

    world.cpu.is_measuring = busy_at_the_second_look  # type: ignore[method-assign]
    with world.cpu.lock(world.cpu.epc.address(1000)):
        outcome, _ = raw(world, file, flags=1)
    world.cpu.is_measuring = genuine  # type: ignore[method-assign]
    return outcome


def test_a_fault_of_eextend_is_efault_and_kills_the_enclave(world: World, file: EnclaveFile) -> None:
    world.refused(spoil_eextend(world, file), errno.EFAULT, "EEXTEND does not fault")
    assert file.encl.dead


def test_ioctl_on_a_dead_enclave_is_efault_once_then_ebusy(world: World, file: EnclaveFile) -> None:
    spoil_eextend(world, file)
    outcome, _ = raw(world, file)
    world.refused(outcome, errno.EFAULT, "the enclave is alive")
    for _ in range(3):
        outcome, _ = raw(world, file)
        world.refused(outcome, errno.EBUSY, "one ioctl at a time")
    file.close()
    assert not world.cpu.enclaves


# INIT.


def test_init_twice_is_efault(world: World) -> None:
    file = world.initialised()
    world.refused(world.init(file, world.sigstruct(file)), errno.EFAULT, "INIT was not done before")


def test_a_fault_of_einit_is_efault_and_kills_the_enclave(world: World) -> None:
    file = world.built()
    sig = world.sigstruct(file)
    with world.cpu.lock(file.encl.secs_address):
        world.refused(world.init(file, sig), errno.EFAULT, "EINIT does not fault")
    world.refused(world.init(file, sig), errno.EFAULT, "the enclave is alive")
    world.refused(world.init(file, sig), errno.EBUSY, "one ioctl at a time")


# mmap and mprotect.


def test_prot_none_is_always_allowed(world: World) -> None:
    file = world.open()
    assert world.mm.mmap(BASE, 2 * SIZE, PROT_NONE, MAP_SHARED | MAP_FIXED, file).ok
    world.create(file)
    assert world.map(file, 0, SIZE, PROT_NONE, READ_IMPLIES_EXEC).ok


@pytest.mark.parametrize("prot", [PROT_READ, PROT_WRITE, PROT_EXEC])
def test_a_hole_is_mapped_with_nothing_but_prot_none(world: World, prot: int) -> None:
    file = world.open()
    world.refused(world.map(file, 0, PAGE_SIZE, prot), errno.EACCES, "every page of the range exists")
    built = world.built()
    world.refused(world.map(built, 0x3000, 0x2000, prot), errno.EACCES, "every page of the range exists")
    assert world.map(built, 0x4000, PAGE_SIZE, PROT_NONE).ok
    outcome = world.mm.mprotect(BASE + 0x4000, PAGE_SIZE, prot)
    world.refused(outcome, errno.EACCES, "every page of the range exists")


def test_the_ceiling_holds_as_upstream(world: World) -> None:
    file = world.built()
    assert world.map(file, 0, PAGE_SIZE, PROT_READ | PROT_EXEC).ok
    world.refused(world.map(file, 0, PAGE_SIZE, PROT_WRITE), errno.EACCES, "no page was added with less")


def test_read_implies_exec_is_not_looked_at_but_adds_exec(world: World) -> None:
    file = world.built()
    assert world.map(file, 0, PAGE_SIZE, PROT_READ, READ_IMPLIES_EXEC).ok
    assert world.mm.vmas[0].prot == PROT_READ | PROT_EXEC
    outcome = world.map(file, 0x1000, PAGE_SIZE, PROT_READ, READ_IMPLIES_EXEC)
    world.refused(outcome, errno.EACCES, "no page was added with less")


def test_an_initialised_enclave_is_reserved_outside_its_range_too(world: World) -> None:
    file = world.initialised()
    assert world.map(file, SIZE, PAGE_SIZE, PROT_NONE).ok


@pytest.mark.parametrize("kind", [MAP_PRIVATE, MAP_SHARED_VALIDATE])
def test_any_type_with_the_private_bit_is_einval(world: World, kind: int) -> None:
    outcome = world.mm.mmap(0, PAGE_SIZE, PROT_NONE, kind, world.open())
    world.refused(outcome, errno.EINVAL, "the mapping is shared")


# Which generation a program was written for.


def test_the_first_add_pages_chooses_the_generation() -> None:
    world = make_world(UPSTREAM_6_12)
    file = world.open()
    world.create(file)
    outcome, back = raw(world, file)
    assert (outcome.value, back.length) == (0, 0)
    assert file.encl.profile is V23
    outcome = world.ioctl(file, uapi.SGX_IOC_ENCLAVE_ADD_PAGES, bytes(48))
    world.refused(outcome, errno.ENOTTY, "the driver knows the ioctl")
    assert world.open().encl.profile is UPSTREAM_6_12


def test_a_later_add_pages_of_the_other_generation_is_enotty() -> None:
    world = make_world(UPSTREAM_6_12)
    outcome, _ = raw(world, world.built(), offset=0x8000)
    world.refused(outcome, errno.ENOTTY, "the driver knows the ioctl")


def test_v23_does_not_know_the_later_number(world: World, file: EnclaveFile) -> None:
    outcome = world.ioctl(file, uapi.SGX_IOC_ENCLAVE_ADD_PAGES, bytes(48))
    world.refused(outcome, errno.ENOTTY, "the driver knows the ioctl")
