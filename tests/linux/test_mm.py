"""mmap, mprotect, munmap, mremap and madvise: linux-driver.md 1.4, 4.1 to 4.3."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

import pytest

from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.linux.device import EnclaveFile
from swsgx.linux.encl import Encl, EnclaveMapping
from swsgx.linux.engine import MappedRun, ModelOnly
from swsgx.linux.failures import FailurePoint
from swsgx.linux.mm import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    TASK_SIZE,
    AddressSpace,
)
from swsgx.linux.syscalls.madvise import MADV_DONTFORK, MADV_REMOVE
from swsgx.linux.syscalls.mremap import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from swsgx.linux.task import READ_IMPLIES_EXEC
from tests.make.world import BASE, REG_RW, SIZE, World

RW, RX = PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC
SHARED_FIXED = MAP_SHARED | MAP_FIXED


class Told(ModelOnly):
    """An engine that remembers what it was told, page by page."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.prots: dict[int, int] = {}
        self.busy: set[int] = set()
        self.failing = False

    def occupied(self, address: Linaddr, length: int) -> bool:
        return any(address <= at < address + length for at in self.busy)

    def attach(self, mapping: EnclaveMapping) -> None:
        assert mapping.vma_bits is not None
        self.calls.append("attach")

    def detach(self, mapping: EnclaveMapping) -> None:
        self.calls.append("detach")

    def map(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        if self.failing:
            raise OSError(errno.ENOMEM, "too many mappings")
        self.calls.append("map")
        self._store(runs)

    def protect(self, encl: Encl, runs: Iterable[MappedRun]) -> None:
        if self.failing:
            raise OSError(errno.ENOMEM, "too many mappings")
        self.calls.append("protect")
        self._store(runs)

    def _store(self, runs: Iterable[MappedRun]) -> None:
        for run in runs:
            for at in range(run.address, run.address + run.length, PAGE_SIZE):
                self.prots[at] = run.prot

    def written(self, encl: Encl, address: Linaddr, length: int) -> None:
        pass

    def unmap(self, encl: Encl | None, address: Linaddr, length: int) -> None:
        self.calls.append("unmap" if encl is not None else "hole")
        for at in range(address, address + length, PAGE_SIZE):
            self.prots.pop(at, None)


@pytest.fixture
def engine(world: World) -> Told:
    told = Told()
    world.mm = AddressSpace(told)
    world.task.mm = world.mm
    return told


def ranges(mm: AddressSpace) -> list[tuple[int, int, int]]:
    return [(vma.start - BASE, vma.end - BASE, vma.prot) for vma in mm.vmas]


def opened(world: World, flags: int) -> EnclaveFile:
    file = world.driver.open(None, flags)
    assert isinstance(file, EnclaveFile)
    return file


# mmap, rows 1 to 10.


def test_the_offset_is_ignored_but_aligned(world: World) -> None:
    file = world.initialised()
    assert world.mm.mmap(BASE, PAGE_SIZE, PROT_READ, SHARED_FIXED, file, 0x7F_F000).value == BASE
    outcome = world.mm.mmap(0, 0, PROT_READ, MAP_PRIVATE, file, 0x800)
    world.refused(outcome, errno.EINVAL, "offset is page aligned")


def test_row_1_a_length_of_0_is_einval(world: World) -> None:
    outcome = world.mm.mmap(0, 0, PROT_READ, MAP_PRIVATE, world.open())
    world.refused(outcome, errno.EINVAL, "length is not 0")


def test_row_2_read_implies_exec_adds_exec_and_then_fails(world: World) -> None:
    file = world.initialised()
    outcome = world.map(file, 0, PAGE_SIZE, PROT_READ, READ_IMPLIES_EXEC)
    world.refused(outcome, errno.EACCES, "READ_IMPLIES_EXEC")
    outcome = world.map(file, 0, PAGE_SIZE, PROT_NONE, READ_IMPLIES_EXEC)
    world.refused(outcome, errno.EACCES, "READ_IMPLIES_EXEC")


def test_row_3_a_length_that_overflows_is_enomem(world: World) -> None:
    outcome = world.mm.mmap(0, (1 << 64) - 1, PROT_READ, MAP_PRIVATE, world.open())
    world.refused(outcome, errno.ENOMEM, "rounded up")


def test_row_3_too_many_mappings_are_enomem(world: World) -> None:
    file = world.open()
    world.mm = AddressSpace(max_map_count=2)
    for at in range(3):
        assert world.mm.mmap(BASE + at * PAGE_SIZE, PAGE_SIZE, 0, SHARED_FIXED, file).ok
    outcome = world.mm.mmap(0, PAGE_SIZE, PROT_READ, MAP_PRIVATE, file)
    world.refused(outcome, errno.ENOMEM, "vm.max_map_count")


def test_a_length_beyond_user_space_is_enomem(world: World) -> None:
    outcome = world.mm.mmap(0, TASK_SIZE + 1, PROT_READ, MAP_PRIVATE, world.open())
    world.refused(outcome, errno.ENOMEM, "length fits in user space")


@pytest.mark.parametrize("flags", [MAP_PRIVATE, MAP_PRIVATE | MAP_FIXED])
def test_row_4_a_private_mapping_is_einval(world: World, flags: int) -> None:
    outcome = world.mm.mmap(1, PAGE_SIZE, PROT_READ, flags, world.open())
    world.refused(outcome, errno.EINVAL, "the mapping is shared")


@pytest.mark.parametrize(
    ("address", "number", "rule"),
    [
        (TASK_SIZE, errno.ENOMEM, "the range ends in user space"),
        (TASK_SIZE - PAGE_SIZE + 1, errno.ENOMEM, "the range ends in user space"),
        (BASE + 1, errno.EINVAL, "a fixed address is page aligned"),
    ],
)
@pytest.mark.parametrize("flag", [MAP_FIXED, MAP_FIXED_NOREPLACE])
def test_row_5_a_fixed_address_is_taken_as_it_is(
    world: World, flag: int, address: int, number: int, rule: str
) -> None:
    outcome = world.mm.mmap(address, PAGE_SIZE, PROT_READ, MAP_SHARED | flag, world.open())
    world.refused(outcome, number, rule)


def test_row_5_noreplace_on_a_mapping_is_eexist(world: World, engine: Told) -> None:
    file = world.open()
    assert world.mm.mmap(BASE, 0x2000, PROT_NONE, SHARED_FIXED, file).ok
    engine.busy.add(BASE + 0x3000)
    flags = MAP_SHARED | MAP_FIXED_NOREPLACE
    for address, size in ((BASE, PAGE_SIZE), (BASE - PAGE_SIZE, 0x2000), (BASE + 0x2000, 0x2000)):
        outcome = world.mm.mmap(address, size, PROT_NONE, flags, file)
        world.refused(outcome, errno.EEXIST, "nothing is mapped in the range")
    assert world.mm.mmap(BASE + 0x2000, PAGE_SIZE, PROT_NONE, flags, file).value == BASE + 0x2000


def test_row_6_without_fixed_the_address_is_only_page_aligned(world: World) -> None:
    file = world.initialised()
    file_before = world.open()
    one = world.mm.mmap(0, PAGE_SIZE, PROT_NONE, MAP_SHARED, file_before)
    two = world.mm.mmap(0, SIZE, PROT_NONE, MAP_SHARED, file_before)
    assert two.value == one.value + PAGE_SIZE
    outcome = world.mm.mmap(0, SIZE, PROT_NONE, MAP_SHARED, file)
    world.refused(outcome, errno.EACCES, "inside the initialised enclave")


def test_row_6_a_hint_is_taken_where_it_is_free(world: World, engine: Told) -> None:
    file = world.open()
    assert world.mm.mmap(BASE + 0x123, PAGE_SIZE, PROT_NONE, MAP_SHARED, file).value == BASE
    assert world.mm.mmap(BASE, PAGE_SIZE, PROT_NONE, MAP_SHARED, file).value != BASE
    engine.busy.add(BASE + 0x5000)
    assert world.mm.mmap(BASE + 0x5000, PAGE_SIZE, PROT_NONE, MAP_SHARED, file).value != BASE + 0x5000
    assert world.mm.mmap(TASK_SIZE, PAGE_SIZE, PROT_NONE, MAP_SHARED, file).ok


def test_row_6_without_room_is_enomem(world: World, engine: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(length: int, alignment: int, hint: int = 0) -> Linaddr:
        raise OSError(errno.ENOMEM, "full")

    monkeypatch.setattr(engine, "reserve", full)
    outcome = world.mm.mmap(0, PAGE_SIZE, PROT_NONE, MAP_SHARED, world.open())
    world.refused(outcome, errno.ENOMEM, "enough addresses are free")


def test_row_7_shared_validate_is_accepted_with_known_flags_only(world: World) -> None:
    file = world.initialised()
    known = MAP_SHARED_VALIDATE | MAP_FIXED | 0x4000 | 0x8000 | 0x2000
    assert world.mm.mmap(BASE, PAGE_SIZE, PROT_READ, known, file).ok
    for unknown in (0x8_0000, 0x20_0000, MAP_FIXED_NOREPLACE):
        outcome = world.mm.mmap(BASE + SIZE, PAGE_SIZE, PROT_READ, known | unknown, file)
        if unknown == MAP_FIXED_NOREPLACE:
            outcome = world.mm.mmap(BASE + 0x1000, PAGE_SIZE, PROT_READ, known | unknown, file)
        world.refused(outcome, errno.EOPNOTSUPP, "MAP_SHARED_VALIDATE knows all flags")
    assert world.mm.mmap(BASE, PAGE_SIZE, PROT_READ, SHARED_FIXED | 0x8_0000, file).ok


@pytest.mark.parametrize("kind", [0, 4, 8, 15])
def test_another_map_type_is_einval(world: World, kind: int) -> None:
    outcome = world.mm.mmap(0, PAGE_SIZE, PROT_READ, kind, world.open())
    world.refused(outcome, errno.EINVAL, "the map type exists")


def test_row_8a_writing_needs_a_file_opened_for_writing(world: World) -> None:
    file = opened(world, os.O_RDONLY)
    world.create(file)
    world.add(file, 0, bytes(PAGE_SIZE), REG_RW)
    outcome = world.map(file, 0, PAGE_SIZE, RW)
    world.refused(outcome, errno.EACCES, "a writable mapping has a file opened for writing")
    assert world.map(file, 0, PAGE_SIZE, PROT_READ).ok
    outcome = world.mm.mprotect(BASE, PAGE_SIZE, RW)
    world.refused(outcome, errno.EACCES, "VM_MAY")
    assert world.mm.mprotect(BASE, PAGE_SIZE, PROT_NONE).ok


def test_row_8b_any_mapping_needs_a_file_opened_for_reading(world: World) -> None:
    file = opened(world, os.O_WRONLY)
    for prot in (PROT_NONE, PROT_WRITE):
        outcome = world.mm.mmap(0, PAGE_SIZE, prot, MAP_SHARED, file)
        world.refused(outcome, errno.EACCES, "a mapping has a file opened for reading")


def test_row_8c_a_noexec_mount_refuses_exec_and_drops_it_for_ever(world: World) -> None:
    world.driver.noexec = True
    file = world.initialised()
    world.refused(world.map(file, 0, PAGE_SIZE, RX), errno.EPERM, "without noexec")
    assert world.map(file, 0, PAGE_SIZE, PROT_READ).ok
    world.refused(world.mm.mprotect(BASE, PAGE_SIZE, RX), errno.EACCES, "VM_MAY")


def test_row_8c_a_noexec_mount_adds_no_exec_for_read_implies_exec(world: World) -> None:
    world.driver.noexec = True
    outcome = world.map(world.initialised(), 0, PAGE_SIZE, PROT_READ, READ_IMPLIES_EXEC)
    world.refused(outcome, errno.EACCES, "READ_IMPLIES_EXEC")


def test_row_10_without_memory_for_the_mm_list_is_enomem(world: World) -> None:
    file = world.initialised()
    world.driver.failures.arm(FailurePoint.MM_LIST, errno.ENOMEM)
    outcome = world.map(file, 0, PAGE_SIZE, PROT_READ)
    world.refused(outcome, errno.ENOMEM, "memory for an entry of the mm list")
    assert world.map(file, 0, PAGE_SIZE, PROT_READ).ok


def test_rows_1_to_9_are_in_this_order(world: World, engine: Told) -> None:
    file = opened(world, os.O_RDONLY)
    world.create(file)
    file.encl.initialised = True
    world.driver.noexec = True
    engine.busy.add(BASE)
    every = PROT_WRITE | PROT_EXEC | PROT_READ
    noreplace = MAP_FIXED_NOREPLACE
    steps: list[tuple[int, int, int, int, int, str]] = [
        (TASK_SIZE, 0, MAP_PRIVATE | noreplace, 1, errno.EINVAL, "offset"),
        (TASK_SIZE, 0, MAP_PRIVATE | noreplace, 0, errno.EINVAL, "length is not 0"),
        (TASK_SIZE, (1 << 64) - 1, MAP_PRIVATE | noreplace, 0, errno.ENOMEM, "rounded"),
        (TASK_SIZE, 1 << 50, MAP_PRIVATE | noreplace, 0, errno.ENOMEM, "length fits"),
        (TASK_SIZE + 1, 1, MAP_PRIVATE | noreplace, 0, errno.EINVAL, "shared"),
        (TASK_SIZE + 1, 1, MAP_SHARED_VALIDATE | noreplace, 0, errno.ENOMEM, "ends in user space"),
        (BASE + 1, 1, MAP_SHARED_VALIDATE | noreplace, 0, errno.EINVAL, "fixed address"),
        (BASE, 1, MAP_SHARED_VALIDATE | noreplace, 0, errno.EEXIST, "nothing is mapped"),
        (BASE, 1, MAP_SHARED_VALIDATE | MAP_FIXED | 1 << 19, 0, errno.EOPNOTSUPP, "knows all flags"),
        (BASE, 1, SHARED_FIXED, 0, errno.EACCES, "opened for writing"),
    ]
    for address, length, flags, offset, number, rule in steps:
        world.refused(world.mm.mmap(address, length, every, flags, file, offset), number, rule)
    outcome = world.mm.mmap(BASE - PAGE_SIZE, 1, RX, SHARED_FIXED, file)
    world.refused(outcome, errno.EPERM, "without noexec")
    outcome = world.mm.mmap(BASE - PAGE_SIZE, 1, PROT_READ, SHARED_FIXED, file)
    world.refused(outcome, errno.EACCES, "inside the initialised enclave")


def test_the_rules_are_not_asked_for_the_address_alone(world: World) -> None:
    """The virgin-fd probes of the kernel's selftest: one page R, one page X, no address, before CREATE."""
    file = world.open()
    for prot in (PROT_READ, PROT_EXEC):
        mapped = world.mm.mmap(0, PAGE_SIZE, prot, MAP_SHARED, file)
        assert mapped.ok
        assert world.mm.munmap(mapped.value, PAGE_SIZE).ok


# The rule common to mmap and mprotect.


def test_before_init_any_address_may_be_mapped(world: World) -> None:
    file = world.built()
    assert world.map(file, SIZE, PAGE_SIZE, RW | PROT_EXEC).ok
    assert world.mm.mmap(0x5000_0000, PAGE_SIZE, RX, SHARED_FIXED, file).ok


@pytest.mark.parametrize("offset", [-PAGE_SIZE, SIZE - PAGE_SIZE, SIZE])
def test_after_init_only_the_range_may_be_mapped(world: World, offset: int) -> None:
    file = world.initialised()
    outcome = world.map(file, offset, 2 * PAGE_SIZE, PROT_NONE)
    world.refused(outcome, errno.EACCES, "inside the initialised enclave")


@pytest.mark.parametrize("prot", range(8))
@pytest.mark.parametrize("offset", [0x4000, 0x8000])
def test_a_hole_may_be_mapped_with_anything(world: World, prot: int, offset: int) -> None:
    for file in (world.built(), world.initialised()):
        assert world.map(file, offset, 0x2000, prot).ok


@pytest.mark.parametrize("prot", range(8))
@pytest.mark.parametrize(("offset", "ceiling"), [(0, RX), (0x1000, RW), (0x3000, RW)])
def test_an_existing_page_caps_the_mapping(world: World, prot: int, offset: int, ceiling: int) -> None:
    outcome = world.map(world.initialised(), offset, PAGE_SIZE, prot)
    if prot & ~ceiling:
        world.refused(outcome, errno.EACCES, "no page was added with less")
        assert outcome.reason is not None
        assert f"{BASE + offset:#x}" in outcome.reason.expected
    else:
        assert outcome.ok


def test_one_page_of_many_is_enough_to_refuse(world: World) -> None:
    file = world.initialised()
    world.refused(world.map(file, 0, SIZE, PROT_WRITE), errno.EACCES, "no page was added with less")
    assert world.map(file, 0x1000, SIZE - 0x1000, PROT_WRITE).ok


# A mapping that was refused, and the one that was there.


def test_a_refused_fixed_mmap_leaves_a_hole(world: World, engine: Told) -> None:
    file = world.initialised()
    assert world.map(file, 0, 0x4000, PROT_READ).ok
    world.refused(world.map(file, 0x1000, 0x1000, RX), errno.EACCES, "no page was added with less")
    assert ranges(world.mm) == [(0, 0x1000, 1), (0x2000, 0x4000, 1)]
    assert engine.calls[-1] == "hole"
    assert world.mm.mappings[file.encl].bits[:4].tolist() == [9, 0, 9, 9]
    assert BASE + 0x1000 not in engine.prots


def test_a_refused_mmap_without_memory_leaves_a_hole_too(world: World) -> None:
    file, other = world.initialised(), world.open()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    world.driver.failures.arm(FailurePoint.MM_LIST, errno.ENOMEM)
    assert world.mm.mmap(BASE, PAGE_SIZE, PROT_NONE, SHARED_FIXED, other).errno == errno.ENOMEM
    assert ranges(world.mm) == [(0x1000, 0x2000, 1)]


def test_a_mmap_refused_earlier_leaves_the_old_mapping(world: World) -> None:
    file = world.initialised()
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    read_only = opened(world, os.O_RDONLY)
    assert world.mm.mmap(BASE, PAGE_SIZE, PROT_WRITE, SHARED_FIXED, read_only).errno == errno.EACCES
    assert ranges(world.mm) == [(0, 0x2000, 1)]


def test_a_new_mapping_replaces_the_old_one_and_its_touched_pages(world: World) -> None:
    file = world.initialised()
    assert world.map(file, 0, 0x4000, PROT_READ).ok
    world.mm.mappings[file.encl].bits[:4] |= 16
    assert world.map(file, 0x1000, 0x2000, RW).ok
    assert ranges(world.mm) == [(0, 0x1000, 1), (0x1000, 0x3000, 3), (0x3000, 0x4000, 1)]
    assert world.mm.mappings[file.encl].bits[:4].tolist() == [0x19, 0x0B, 0x0B, 0x19]


def test_neighbours_are_never_merged(world: World) -> None:
    file = world.initialised()
    for offset in (0x1000, 0x2000):
        assert world.map(file, offset, PAGE_SIZE, RW).ok
    assert len(world.mm.vmas) == 2


def test_what_the_host_cannot_map_is_enomem(world: World, engine: Told) -> None:
    file = world.initialised()
    engine.failing = True
    world.refused(world.map(file, 0, PAGE_SIZE, PROT_READ), errno.ENOMEM, "the host can map the range")
    assert (ranges(world.mm), engine.calls) == ([], ["attach", "detach"])
    engine.failing = False
    assert world.map(file, 0, PAGE_SIZE, PROT_READ).ok
    engine.failing = True
    outcome = world.mm.mprotect(BASE, PAGE_SIZE, PROT_NONE)
    world.refused(outcome, errno.ENOMEM, "the host can protect the range")
    assert ranges(world.mm) == [(0, PAGE_SIZE, PROT_READ)]


def test_pages_that_the_host_cannot_map_make_add_pages_enomem(world: World, engine: Told) -> None:
    file = world.open()
    world.create(file)
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    engine.failing = True
    outcome, back = world.add(file, 0, bytes(PAGE_SIZE))
    world.refused(outcome, errno.ENOMEM, "the host can map the pages")
    assert int.from_bytes(bytes(back)[40:48], "little") == PAGE_SIZE


# mprotect.


def test_mprotect_splits_and_keeps_touched_pages(world: World) -> None:
    file = world.initialised()
    assert world.map(file, 0x1000, 0x2000, RW).ok
    world.mm.mappings[file.encl].bits[1:3] |= 16
    assert world.mm.mprotect(BASE + 0x1000, 1, PROT_READ).ok
    assert ranges(world.mm) == [(0x1000, 0x2000, 1), (0x2000, 0x3000, 3)]
    assert world.mm.mappings[file.encl].bits[1:3].tolist() == [0x19, 0x1B]


def test_mprotect_to_what_it_has_splits_nothing(world: World) -> None:
    assert world.map(world.initialised(), 0, 0x3000, PROT_READ).ok
    assert world.mm.mprotect(BASE + 0x1000, PAGE_SIZE, PROT_READ).ok
    assert len(world.mm.vmas) == 1


def test_mprotect_misaligned_is_einval_before_anything_else(world: World) -> None:
    world.map(world.initialised(), 0, 0x1000, PROT_READ)
    outcome = world.mm.mprotect(BASE + 1, 0, 0x100)
    world.refused(outcome, errno.EINVAL, "the address is page aligned")


def test_mprotect_of_nothing_is_success(world: World) -> None:
    assert world.mm.mprotect(BASE, 0, 0x100).ok


def test_mprotect_of_a_range_that_wraps_is_enomem(world: World) -> None:
    world.map(world.initialised(), 0, 0x1000, PROT_READ)
    outcome = world.mm.mprotect(BASE, (1 << 64) - 1, 0x100)
    world.refused(outcome, errno.ENOMEM, "does not wrap")


def test_mprotect_with_an_unknown_protection_is_einval(world: World) -> None:
    world.map(world.initialised(), 0, 0x1000, PROT_READ)
    outcome = world.mm.mprotect(BASE, PAGE_SIZE, 0x10)
    world.refused(outcome, errno.EINVAL, "only known protections")
    assert world.mm.mprotect(BASE, PAGE_SIZE, PROT_READ | 8).ok


def test_mprotect_over_a_gap_is_enomem_and_what_came_before_stays(world: World) -> None:
    file = world.initialised()
    world.map(file, 0x1000, 0x1000, PROT_READ)
    world.map(file, 0x3000, 0x1000, PROT_READ)
    outcome = world.mm.mprotect(BASE + 0x1000, 0x3000, RW)
    world.refused(outcome, errno.ENOMEM, "the whole range is mapped")
    assert ranges(world.mm) == [(0x1000, 0x2000, 3), (0x3000, 0x4000, 1)]
    assert world.mm.mprotect(BASE + 0x8000, PAGE_SIZE, RW).errno == errno.ENOMEM


def test_mprotect_over_several_mappings_stops_at_the_first_refusal(world: World) -> None:
    file = world.initialised()
    for offset in (0x2000, 0x1000, 0):
        world.map(file, offset, 0x1000, PROT_READ)
    outcome = world.mm.mprotect(BASE, 0x3000, RX)
    world.refused(outcome, errno.EACCES, "no page was added with less")
    assert ranges(world.mm) == [(0, 0x1000, 5), (0x1000, 0x2000, 1), (0x2000, 0x3000, 1)]


def test_mprotect_looks_only_at_the_range(world: World) -> None:
    file = world.initialised()
    world.map(file, 0, 0x3000, PROT_READ)
    assert world.mm.mprotect(BASE + 0x1000, 0x2000, RW).ok
    assert world.mm.mprotect(BASE, 0x1000, RX).ok


def test_mprotect_by_a_read_implies_exec_task_is_eacces(world: World) -> None:
    world.map(world.initialised(), 0, 0x1000, PROT_READ)
    for prot in (PROT_NONE, PROT_READ):
        outcome = world.mm.mprotect(BASE, 0x1000, prot, personality=READ_IMPLIES_EXEC)
        world.refused(outcome, errno.EACCES, "READ_IMPLIES_EXEC")


def test_mprotect_outside_the_range_after_init_is_eacces(world: World) -> None:
    file = world.built()
    assert world.map(file, SIZE, 0x1000, PROT_READ).ok
    assert world.init(file).ok
    outcome = world.mm.mprotect(BASE + SIZE, 0x1000, PROT_NONE)
    world.refused(outcome, errno.EACCES, "inside the initialised enclave")


def test_mprotect_that_would_make_one_mapping_too_many_is_enomem(world: World) -> None:
    world.mm = AddressSpace(max_map_count=2)
    world.map(world.initialised(), 0x1000, 0x3000, PROT_READ)
    outcome = world.mm.mprotect(BASE + 0x2000, 0x1000, RW)
    world.refused(outcome, errno.ENOMEM, "the mapping can be split")
    assert world.mm.mprotect(BASE + 0x1000, 0x1000, RW).ok


# munmap.


@pytest.mark.parametrize(
    ("address", "length"), [(BASE + 1, PAGE_SIZE), (BASE, 0), (TASK_SIZE + PAGE_SIZE, 1), (BASE, TASK_SIZE)]
)
def test_munmap_of_a_bad_range_is_einval(world: World, address: int, length: int) -> None:
    world.map(world.initialised(), 0, 0x2000, PROT_READ)
    assert world.mm.munmap(address, length).errno == errno.EINVAL
    assert ranges(world.mm) == [(0, 0x2000, 1)]


def test_munmap_splits_freely_and_pages_can_be_mapped_again(world: World) -> None:
    file = world.initialised()
    world.map(file, 0, 0x4000, PROT_READ)
    assert world.mm.munmap(BASE + 0x1000, 0x1000).ok
    assert ranges(world.mm) == [(0, 0x1000, 1), (0x2000, 0x4000, 1)]
    assert bytes(file.encl.store.page(0)) == b"\x90" * PAGE_SIZE
    assert world.map(file, 0x1000, 0x1000, RW).ok
    assert world.mm.munmap(BASE - 0x10000, 0x40000).ok
    assert ranges(world.mm) == []
    assert world.mm.munmap(BASE, SIZE).ok


def test_munmap_in_the_middle_can_be_one_mapping_too_many(world: World) -> None:
    world.mm = AddressSpace(max_map_count=1)
    world.map(world.initialised(), 0, 0x3000, PROT_READ)
    outcome = world.mm.munmap(BASE + 0x1000, 0x1000)
    world.refused(outcome, errno.ENOMEM, "the mapping can be split")
    assert world.mm.munmap(BASE, 0x1000).ok


# mremap and madvise.


def test_mremap_shrinks_and_moves_and_does_not_grow(world: World, engine: Told) -> None:
    world.map(world.built(), 0, 0x4000, PROT_READ)
    assert world.mm.mremap(BASE, 0x4000, 0x2000, 0).value == BASE
    assert ranges(world.mm) == [(0, 0x2000, 1)]
    assert world.mm.mremap(BASE, 0x2000, 0x2000, 0).value == BASE
    outcome = world.mm.mremap(BASE, 0x2000, 0x3000, MREMAP_MAYMOVE)
    world.refused(outcome, errno.EFAULT, "an enclave mapping does not grow")
    outcome = world.mm.mremap(BASE, 0, 0x1000, MREMAP_MAYMOVE)
    world.refused(outcome, errno.EFAULT, "an enclave mapping does not grow")
    there = BASE + 0x100_0000
    assert world.mm.mremap(BASE + 0x1000, 0x1000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, there).value == there
    assert ranges(world.mm) == [(0, 0x1000, 1), (0x100_0000, 0x100_1000, 1)]
    assert engine.prots == {BASE: 1, there: 0}


def test_mremap_does_not_check_the_range_again(world: World) -> None:
    """As the driver: a move may leave the range of an initialised enclave."""
    world.map(world.initialised(), 0, 0x1000, PROT_READ)
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    assert world.mm.mremap(BASE, 0x1000, 0x1000, flags, BASE + SIZE).ok


@pytest.mark.parametrize(
    ("old", "new", "flags", "target", "number", "rule"),
    [
        (0x1000, 0x1000, 8, 0, errno.EINVAL, "only known flags"),
        (0x1000, 0x1000, MREMAP_FIXED, 0, errno.EINVAL, "comes with MREMAP_MAYMOVE"),
        (0x1000, 0x2000, MREMAP_DONTUNMAP | 1, 0, errno.EINVAL, "does not resize"),
        (0x1000, 0x1000, MREMAP_DONTUNMAP, 0, errno.EINVAL, "does not resize"),
        (0x1000, 0, 0, 0, errno.EINVAL, "new_length is not 0"),
        (0x1000, 0x1000, 3, 1, errno.EINVAL, "the new address is page aligned"),
        (0x1000, 0x1000, 3, TASK_SIZE, errno.EINVAL, "the new range is in user space"),
        (0x2000, 0x2000, 3, BASE + 0x1000, errno.EINVAL, "do not overlap"),
        (0x1000, 0x1000, MREMAP_DONTUNMAP | 1, BASE + SIZE, errno.EINVAL, "for ordinary memory"),
        (0x9000, 0x9000, 3, BASE + SIZE, errno.EFAULT, "the range lies in one mapping"),
        (0x1000, 0x2000, 3, BASE + SIZE, errno.EFAULT, "does not grow"),
    ],
)
def test_mremap_refusals(
    world: World, old: int, new: int, flags: int, target: int, number: int, rule: str
) -> None:
    world.map(world.built(), 0, 0x4000, PROT_READ)
    world.refused(world.mm.mremap(BASE, old, new, flags, target), number, rule)
    assert ranges(world.mm) == [(0, 0x4000, 1)]


def test_mremap_of_nothing_is_efault_and_misaligned_is_einval(world: World) -> None:
    assert world.mm.mremap(BASE, 0x1000, 0x1000, 0).errno == errno.EFAULT
    assert world.mm.mremap(BASE + 1, 0x1000, 0x1000, 0).errno == errno.EINVAL


def test_mremap_shrinks_while_it_moves(world: World) -> None:
    world.map(world.built(), 0, 0x4000, PROT_READ)
    assert world.mm.mremap(BASE, 0x3000, 0x1000, 3, BASE + SIZE).ok
    assert ranges(world.mm) == [(0x3000, 0x4000, 1), (SIZE, SIZE + 0x1000, 1)]


def test_mremap_near_the_limit_of_mappings_is_enomem(world: World) -> None:
    world.mm = AddressSpace(max_map_count=6)
    world.map(world.built(), 0, 0x4000, PROT_READ)
    outcome = world.mm.mremap(BASE, 0x1000, 0x1000, 3, BASE + SIZE)
    world.refused(outcome, errno.ENOMEM, "room for more mappings")


def test_a_move_that_would_split_one_mapping_too_many_is_enomem(world: World) -> None:
    file = world.built()
    world.mm = AddressSpace(max_map_count=7)
    for offset in (0, 0x8000):
        world.map(file, offset, 0x4000, PROT_READ)
    assert world.mm.munmap(BASE + 0x9000, 0x1000).ok
    world.mm.max_map_count = 3
    assert world.mm.munmap(BASE + 0x1000, 0x1000).errno == errno.ENOMEM
    world.mm.max_map_count = 8
    assert world.mm.mremap(BASE + 0x1000, 0x2000, 0x1000, 0).ok
    assert ranges(world.mm)[:2] == [(0, 0x2000, 1), (0x3000, 0x4000, 1)]


def test_shrinking_in_the_middle_can_be_one_mapping_too_many(world: World) -> None:
    world.mm = AddressSpace(max_map_count=1)
    world.map(world.built(), 0, 0x4000, PROT_READ)
    outcome = world.mm.mremap(BASE, 0x3000, 0x1000, 0)
    world.refused(outcome, errno.ENOMEM, "the mapping can be split")


def test_a_move_onto_a_mapping_replaces_it(world: World) -> None:
    world.map(world.built(), 0, 0x8000, PROT_READ)
    target = BASE + 0x4000
    assert world.mm.mremap(BASE, 0x1000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, target).value == target
    assert ranges(world.mm) == [(0x1000, 0x4000, 1), (0x4000, 0x5000, 1), (0x5000, 0x8000, 1)]


def test_a_copy_is_a_growing_and_its_target_is_unmapped_all_the_same(world: World) -> None:
    world.map(world.built(), 0, 0x8000, PROT_READ)
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    world.refused(world.mm.mremap(BASE, 0, 0x1000, flags, BASE + 0x4000), errno.EFAULT, "does not grow")
    assert ranges(world.mm) == [(0, 0x4000, 1), (0x5000, 0x8000, 1)]
    world.refused(world.mm.mremap(BASE, 0, 0x1000, flags, BASE), errno.EFAULT, "covers the address")
    assert ranges(world.mm) == [(0x1000, 0x4000, 1), (0x5000, 0x8000, 1)]


def test_a_move_that_the_host_cannot_make_is_enomem(world: World, engine: Told) -> None:
    world.map(world.built(), 0, 0x1000, PROT_READ)
    engine.failing = True
    outcome = world.mm.mremap(BASE, 0x1000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + SIZE)
    world.refused(outcome, errno.ENOMEM, "the host can map the new range")
    assert ranges(world.mm) == [(0, 0x1000, 1)]


def test_a_fixed_mmap_in_the_middle_can_be_one_mapping_too_many(world: World) -> None:
    file = world.built()
    world.mm = AddressSpace(max_map_count=1)
    world.map(file, 0, 0x4000, PROT_READ)
    outcome = world.map(file, 0x1000, 0x1000, PROT_READ)
    world.refused(outcome, errno.ENOMEM, "the old mapping can be split")
    assert ranges(world.mm) == [(0, 0x4000, 1)]


def test_a_mapping_reads_like_a_line_of_maps(world: World) -> None:
    world.map(world.built(), 0, 0x1000, RX)
    assert repr(world.mm.vmas[0]) == f"<vma {BASE:#x}-{BASE + 0x1000:#x} r-xs /dev/sgx_enclave>"


def test_mappings_outside_the_range_have_no_bytes_and_no_pages(world: World, engine: Told) -> None:
    file = world.built()
    assert world.map(file, -0x2000, SIZE + 0x4000, PROT_NONE).ok
    assert world.mm.mprotect(BASE - 0x2000, 0x3000, PROT_READ).ok
    assert world.mm.mprotect(BASE + SIZE - 0x1000, 0x3000, RW).ok
    assert {at - BASE: prot for at, prot in engine.prots.items() if prot} == {0: 1}
    assert world.mm.mappings[file.encl].bits.tolist() == [9] + [8] * 14 + [11]


@pytest.mark.parametrize("advice", [4, 8, 11, 17, 18, 20, 21, 22, 23, 24, 25, 99])
def test_advice_that_does_not_fit_an_enclave_is_einval(world: World, advice: int) -> None:
    world.map(world.initialised(), 0, 0x2000, PROT_READ)
    assert world.mm.madvise(BASE, 0x1000, advice).errno == errno.EINVAL


@pytest.mark.parametrize("advice", [0, 1, 2, 3, 16, 19])
def test_advice_without_effect_is_success(world: World, advice: int) -> None:
    world.map(world.initialised(), 0, 0x2000, PROT_READ)
    assert world.mm.madvise(BASE, 0x2000, advice).ok
    assert len(world.mm.vmas) == 1


def test_dontfork_keeps_a_mapping_from_the_child(world: World) -> None:
    world.map(world.initialised(), 0, 0x3000, PROT_READ)
    assert world.mm.madvise(BASE + 0x1000, 0x1000, MADV_DONTFORK).ok
    assert world.mm.madvise(BASE + 0x1000, 0x1000, MADV_DONTFORK).ok
    assert ranges(world.mm.fork()) == [(0, 0x1000, 1), (0x2000, 0x3000, 1)]


def test_remove_is_enodev_and_eacces_on_a_read_only_file(world: World) -> None:
    world.map(world.initialised(), 0, 0x1000, PROT_READ)
    world.refused(world.mm.madvise(BASE, 0x1000, MADV_REMOVE), errno.ENODEV, "a regular one")
    file = opened(world, os.O_RDONLY)
    world.mm.mmap(BASE, 0x1000, PROT_READ, SHARED_FIXED, file)
    world.refused(world.mm.madvise(BASE, 0x1000, MADV_REMOVE), errno.EACCES, "may be written")


def test_madvise_over_a_gap_does_the_rest_and_is_enomem(world: World) -> None:
    file = world.initialised()
    world.map(file, 0x1000, 0x1000, PROT_READ)
    world.map(file, 0x3000, 0x1000, PROT_READ)
    outcome = world.mm.madvise(BASE + 0x1000, 0x4000, MADV_DONTFORK)
    world.refused(outcome, errno.ENOMEM, "the whole range is mapped")
    assert [vma.dontfork for vma in world.mm.vmas] == [True, True]


def test_madvise_checks_advice_then_address_then_range(world: World) -> None:
    world.map(world.initialised(), 0, 0x1000, PROT_READ)
    assert world.mm.madvise(BASE + 1, 0x1000, 0).errno == errno.EINVAL
    assert world.mm.madvise(BASE, (1 << 64) - PAGE_SIZE, 0).errno == errno.EINVAL
    assert world.mm.madvise(BASE, 0, 4).ok


# What the engine is told.


def test_the_engine_gets_what_vma_and_epcm_both_allow(world: World, engine: Told) -> None:
    file = world.initialised()
    assert world.map(file, 0, SIZE, PROT_READ).ok
    assert engine.calls == ["attach", "map"]
    expected = dict.fromkeys(range(BASE, BASE + SIZE, PAGE_SIZE), 0)
    expected |= {BASE: 1, BASE + 0x1000: 1, BASE + 0x2000: 1}
    assert engine.prots == expected
    assert world.mm.mprotect(BASE + 0x1000, 0x2000, RW).ok
    assert engine.prots == expected | {BASE + 0x1000: 3, BASE + 0x2000: 3}


def test_the_engine_hears_of_pages_added_later(world: World, engine: Told) -> None:
    file = world.open()
    assert world.map(file, 0, 0x20000, PROT_NONE).ok
    assert world.create(file).ok
    assert engine.calls == ["map", "attach", "map"]
    assert world.mm.mprotect(BASE, 0x4000, PROT_READ).ok
    assert set(engine.prots.values()) == {0}
    world.add(file, 0x1000, bytes(PAGE_SIZE))
    assert {at - BASE for at, prot in engine.prots.items() if prot} == {0x1000}


def test_the_engine_attaches_and_detaches_with_the_first_and_last_mapping(world: World, engine: Told) -> None:
    file = world.initialised()
    world.map(file, 0, 0x1000, PROT_READ)
    world.map(file, 0x1000, 0x1000, PROT_READ)
    world.mm.munmap(BASE, 0x1000)
    assert engine.calls.count("detach") == 0
    world.mm.munmap(BASE + 0x1000, 0x1000)
    assert engine.calls[-1] == "detach"
    world.map(file, 0, 0x1000, PROT_READ)
    assert engine.calls.count("attach") == 2
    world.mm.exit()
    assert engine.calls[-1] == "detach"


def test_every_change_of_a_mapping_raises_the_generation(world: World) -> None:
    file = world.initialised()
    head = file.encl.store.head
    seen = [head.generation]
    assert world.map(file, 0, 0x2000, PROT_READ).ok
    seen.append(head.generation)
    assert world.mm.mprotect(BASE, 0x1000, PROT_NONE).ok
    seen.append(head.generation)
    assert world.mm.munmap(BASE, 0x2000).ok
    seen.append(head.generation)
    assert seen == sorted(set(seen))
