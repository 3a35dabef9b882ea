"""A debugger looks at an enclave: linux-driver.md 4.4."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Attributes, PageType
from swsgx.isa.structs import Tcs
from swsgx.linux.access import peek, poke, read_memory, write_memory
from swsgx.linux.device import EnclaveFile
from swsgx.linux.failures import FailurePoint
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED, PROT_NONE, PROT_READ
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import V23
from swsgx.native.abi import EpcmState
from tests.make.world import BASE, REG_R, World, a_secs, make_world

DATA = bytes(range(256)) * 16


def mapped(world: World, prot: int = PROT_NONE) -> EnclaveFile:
    """A debug enclave: pages 0 and 1 with DATA and its reverse, page 2 a TCS; a mapping over all of it."""
    file = world.open()
    world.create(file)
    world.add(file, 0, DATA, REG_R)
    world.add(file, 0x1000, DATA[::-1], REG_R)
    world.add(file, 0x2000, bytes(Tcs.of(oentry=0x1234, nssa=1)), 0x100)
    assert world.map(file, 0, 0x4000, prot).ok
    return file


def refused(outcome: bytes | Outcome, number: int, rule: str) -> None:
    assert isinstance(outcome, Outcome)
    assert outcome.errno == number
    assert outcome.reason is not None
    assert rule in outcome.reason.rule


def recording(on: bool) -> World:
    """A world that records leaves, or not: then the words between the first and the last of a page move at once."""
    world = make_world()
    if not on:
        world.driver.trace.sinks.clear()
    return world


@given(offset=st.integers(0, 2 * PAGE_SIZE - 1), size=st.integers(1, 2 * PAGE_SIZE), recorded=st.booleans())
def test_reading_is_byte_exact_at_any_alignment(offset: int, size: int, recorded: bool) -> None:
    world = recording(recorded)
    mapped(world)
    size = min(size, 2 * PAGE_SIZE - offset)
    assert read_memory(world.mm, BASE + offset, size) == (DATA + DATA[::-1])[offset : offset + size]
    world.cpu.close()


@given(
    offset=st.integers(0, 2 * PAGE_SIZE - 1), data=st.binary(min_size=1, max_size=40), recorded=st.booleans()
)
def test_writing_is_byte_exact_at_any_alignment(offset: int, data: bytes, recorded: bool) -> None:
    world = recording(recorded)
    file = mapped(world)
    data = data[: 2 * PAGE_SIZE - offset]
    assert write_memory(world.mm, BASE + offset, data).value == len(data)
    expected = bytearray(DATA + DATA[::-1])
    expected[offset : offset + len(data)] = data
    assert bytes(file.encl.store.contents.view[: 2 * PAGE_SIZE]) == expected
    world.cpu.close()


def test_peek_and_poke_move_words(world: World) -> None:
    mapped(world)
    assert peek(world.mm, BASE + 3) == DATA[3:11]
    assert poke(world.mm, BASE + PAGE_SIZE - 4, b"debugger").ok
    assert peek(world.mm, BASE + PAGE_SIZE - 4) == b"debugger"


def test_it_works_before_init_and_whatever_the_mapping_grants(world: World) -> None:
    file = mapped(world, PROT_NONE)
    assert peek(world.mm, BASE) == DATA[:8]
    assert world.init(file).ok
    assert poke(world.mm, BASE, bytes(8)).ok


def test_v23_waits_for_init() -> None:
    world = make_world(V23)
    file = mapped(world, PROT_NONE)
    refused(peek(world.mm, BASE), errno.EIO, "INIT was done")
    assert world.init(file).ok
    assert peek(world.mm, BASE) == DATA[:8]


def test_an_enclave_without_debug_shows_nothing(world: World) -> None:
    file = world.built(a_secs(attributes=Attributes.MODE64BIT))
    world.map(file, 0, 0x4000, PROT_NONE)
    refused(peek(world.mm, BASE), errno.EIO, "the enclave has ATTRIBUTES.DEBUG")
    refused(poke(world.mm, BASE, bytes(8)), errno.EIO, "the enclave has ATTRIBUTES.DEBUG")


def test_nothing_mapped_is_eio(world: World) -> None:
    refused(peek(world.mm, BASE), errno.EIO, "an enclave mapping covers the address")


def test_an_empty_enclave_shows_nothing(world: World) -> None:
    file = world.open()
    assert world.mm.mmap(BASE, PAGE_SIZE, PROT_NONE, MAP_SHARED | MAP_FIXED, file).ok
    refused(peek(world.mm, BASE), errno.EIO, "the enclave has ATTRIBUTES.DEBUG")


def test_a_hole_is_eio(world: World) -> None:
    mapped(world)
    refused(peek(world.mm, BASE + 0x3000), errno.EIO, "a page was added at the address")


def test_a_mapping_wider_than_the_ceiling_is_eio(world: World) -> None:
    file = world.open()
    world.create(file)
    world.map(file, 0, PAGE_SIZE, 3)
    world.add(file, 0, DATA, REG_R)
    refused(peek(world.mm, BASE), errno.EIO, "the mapping is not wider than the page's ceiling")
    assert world.mm.mprotect(BASE, PAGE_SIZE, PROT_READ).ok
    assert peek(world.mm, BASE) == DATA[:8]


def test_a_mapping_that_fork_could_not_record_is_eio(world: World) -> None:
    mapped(world)
    world.driver.failures.arm(FailurePoint.MM_LIST, errno.ENOMEM)
    child = world.mm.fork()
    refused(peek(child, BASE), errno.EIO, "the mapping has an enclave")


@pytest.mark.parametrize("recorded", [True, False])
def test_of_a_tcs_the_fields_are_seen_and_flags_are_written(recorded: bool) -> None:
    world = recording(recorded)
    mapped(world)
    at = BASE + 0x2000
    assert read_memory(world.mm, at, 72) == bytes(Tcs.of(oentry=0x1234, nssa=1))[:72]
    refused(peek(world.mm, at + 72), errno.EIO, "EDBGRD succeeds")
    assert poke(world.mm, at + Tcs.flags.offset, (1).to_bytes(8, "little")).ok
    refused(poke(world.mm, at + Tcs.oentry.offset, bytes(8)), errno.EIO, "EDBGWR succeeds")


@pytest.mark.parametrize("state", [EpcmState.PENDING, EpcmState.MODIFIED])
def test_a_page_in_transition_is_eio(world: World, state: EpcmState) -> None:
    file = mapped(world)
    frame = int(file.encl.store.frame_map[0]) - 1
    world.cpu.epcm[frame].state = EpcmState.VALID | state
    refused(peek(world.mm, BASE), errno.EIO, "EDBGRD succeeds")


def test_a_page_of_another_type_is_eio(world: World) -> None:
    file = mapped(world)
    world.cpu.epcm[int(file.encl.store.frame_map[0]) - 1].pt = PageType.TRIM
    refused(peek(world.mm, BASE), errno.EIO, "EDBGRD succeeds")


def test_a_chunk_that_fails_in_the_middle_gives_nothing(world: World) -> None:
    """One driver call reports all or nothing; /proc/PID/mem calls it for at most 4096 bytes."""
    mapped(world)
    end = BASE + 2 * PAGE_SIZE
    assert read_memory(world.mm, end + 64, 8) == bytes(8)
    refused(read_memory(world.mm, end + 64, 16), errno.EIO, "EDBGRD succeeds")
    assert read_memory(world.mm, BASE, 3 * PAGE_SIZE) == DATA + DATA[::-1]
    assert read_memory(world.mm, BASE + 100, 3 * PAGE_SIZE) == (DATA + DATA[::-1])[100 : 100 + PAGE_SIZE]


def test_a_write_that_fails_in_the_middle_of_a_chunk_tells_nothing_yet_words_are_written(
    world: World,
) -> None:
    mapped(world)
    at = BASE + 2 * PAGE_SIZE - 8
    refused(write_memory(world.mm, at, b"x" * 16), errno.EIO, "EDBGWR succeeds")
    assert peek(world.mm, at) == b"x" * 8


def test_the_record_tells_of_the_access(world: World) -> None:
    mapped(world)
    peek(world.mm, BASE)
    assert (world.events[-1].name, world.events[-1].result) == ("debug read", "0x8")
