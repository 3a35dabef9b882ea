"""Any order of calls: a stateful generator drives the driver, and invariants are named functions.

Beside the driver runs a much simpler book-keeping, per page and per address, which says what each call must
answer; after each step the invariants walk the machine's own tables.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.linux.access import peek, poke
from swsgx.linux.device import EnclaveFile
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED, AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import PROFILES
from swsgx.linux.syscalls.madvise import MADV_DONTFORK
from swsgx.native.abi import EpcmState, VmaBits
from tests.make.world import BASE, REG_R, REG_RW, REG_RX, SIZE, TCS, a_tcs, make_world

PAGES = SIZE // PAGE_SIZE
#: Pages before and behind ELRANGE that are mapped, too.
MARGIN = 2
EPC_PAGES = 48

prots = st.integers(0, 7)
#: Most of what happens happens among the first pages, so that things meet.
starts = st.integers(-MARGIN, 7) | st.integers(PAGES - 3, PAGES + MARGIN - 1)
lengths = st.integers(1, 6)


@dataclass
class Shadow:
    """What the test knows of one enclave file."""

    file: EnclaveFile
    created: bool = False
    initialised: bool = False
    ceilings: dict[int, int] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    descriptors: int = 1


@dataclass
class Process:
    """What the test knows of one address space: by page, which file is mapped and how."""

    mm: AddressSpace
    pages: dict[int, tuple[Shadow, int, bool]] = field(default_factory=dict)


class Programs(RuleBasedStateMachine):
    """Several processes, several enclaves, one small EPC."""

    files = Bundle("files")
    processes = Bundle("processes")

    def __init__(self) -> None:
        super().__init__()
        self.shadows: list[Shadow] = []
        self.running: list[Process] = []

    @initialize(target=processes, name=st.sampled_from(sorted(PROFILES)))
    def boot(self, name: str) -> Process:
        self.world = make_world(PROFILES[name], epc_pages=EPC_PAGES)
        self.world.driver.reclaimer.backing_pages = 0  # paging has its own machine: test_paging_machine.py
        self.world.driver.trace.sinks.clear()
        self.map_rules = PROFILES[name].mapping
        first = Process(self.world.mm)
        self.running.append(first)
        return first

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for process in self.running:
            process.mm.exit()
        for shadow in self.shadows:
            while shadow.descriptors:
                shadow.file.close()
                shadow.descriptors -= 1
        assert self.world.cpu.epc.free_count == EPC_PAGES
        assert not self.world.cpu.enclaves
        assert not self.world.driver.leaked
        self.world.cpu.close()

    # Files.

    @rule(target=files)
    def open_only(self) -> Shadow:
        return self.open()

    def open(self) -> Shadow:
        shadow = Shadow(self.world.open())
        self.shadows.append(shadow)
        return shadow

    @rule(target=files, layout=st.lists(st.sampled_from([0, REG_R, REG_RW, REG_RX, TCS]), max_size=8))
    def open_and_build(self, layout: list[int]) -> Shadow:
        """An enclave with a few pages, which the smaller rules would seldom reach."""
        shadow = self.open()
        self.create(shadow)
        for first, flags in enumerate(layout):
            if flags:
                self.add(shadow, first, 1, flags, False, first, None)
        return shadow

    @rule(target=files, shadow=files)
    def dup(self, shadow: Shadow) -> Shadow:
        assert shadow.file.dup() is shadow.file
        shadow.descriptors += 1
        return shadow

    @rule(shadow=consumes(files))
    def close(self, shadow: Shadow) -> None:
        shadow.file.close()
        shadow.descriptors -= 1
        self.forget_dead_enclaves()

    def forget_dead_enclaves(self) -> None:
        used = {id(s) for p in self.running for s, _, _ in p.pages.values()}
        for shadow in self.shadows:
            if not shadow.descriptors and id(shadow) not in used:
                shadow.created = shadow.initialised = False
                shadow.ceilings.clear()
                shadow.contents.clear()

    # Building.

    @rule(shadow=files)
    def create_one(self, shadow: Shadow) -> None:
        self.create(shadow)

    def create(self, shadow: Shadow) -> None:
        outcome = self.world.create(shadow.file)
        if shadow.created:
            assert outcome.errno == errno.EINVAL
        elif outcome.ok:
            shadow.created = True
        else:
            assert outcome.errno == errno.ENOMEM
            assert self.world.cpu.epc.free_count < 2

    @rule(
        shadow=files,
        first=st.integers(0, 8) | st.integers(PAGES - 2, PAGES),
        count=lengths,
        flags=st.sampled_from([REG_R, REG_RW, REG_RX, TCS]),
        measured=st.booleans(),
        seed=st.integers(0, 255),
        readable=st.none() | st.integers(0, 6),
    )
    def add_pages(
        self,
        shadow: Shadow,
        first: int,
        count: int,
        flags: int,
        measured: bool,
        seed: int,
        readable: int | None,
    ) -> None:
        self.add(shadow, first, count, flags, measured, seed, readable)

    def add(
        self,
        shadow: Shadow,
        first: int,
        count: int,
        flags: int,
        measured: bool,
        seed: int,
        readable: int | None,
    ) -> None:
        page = bytes(a_tcs(oentry=seed)) if flags == TCS else bytes([seed]) * PAGE_SIZE
        world, profile = self.world, shadow.file.encl.profile
        src = world.memory.map(page * count)
        if readable is not None and readable < count:
            del world.memory.pages[src + readable * PAGE_SIZE]
        free = world.cpu.epc.free_count
        outcome, back = world.add(
            shadow.file, first * PAGE_SIZE, b"", flags, measured=measured, src=src, length=count * PAGE_SIZE
        )
        raw = bytes(back)
        if profile.count_ioctl:
            done = int.from_bytes(raw[40:48], "little") // PAGE_SIZE
        else:
            done = count - int.from_bytes(raw[16:24], "little") // PAGE_SIZE
        for index in range(first, first + done):
            assert index not in shadow.ceilings
            shadow.ceilings[index] = 3 if flags == TCS else flags & 7
            shadow.contents[index] = page
        after = first + done
        if not shadow.created or (shadow.initialised and profile.count_ioctl) or first + count > PAGES:
            assert (outcome.errno, done) == (errno.EINVAL, 0)
        elif shadow.initialised:
            # v23 takes an EPC page before it looks at the state of the enclave.
            assert (outcome.errno in (errno.EFAULT, errno.ENOMEM), done) == (True, 0)
        elif outcome.ok:
            assert done == count
        elif outcome.errno == profile.add_pages.duplicate:
            assert after in shadow.ceilings
        elif outcome.errno == errno.EFAULT:
            assert done == readable
        else:
            assert outcome.errno == errno.ENOMEM
            assert free - done == 0

    @rule(shadow=files, good=st.booleans())
    def init(self, shadow: Shadow, good: bool) -> None:
        if not shadow.created:
            assert self.world.ioctl(shadow.file, 0x4008_A402, bytes(8)).errno == errno.EINVAL
            return
        sigstruct = self.world.sigstruct(shadow.file)
        if not good:
            sigstruct.q2 = bytes(384)
        outcome = self.world.init(shadow.file, sigstruct)
        if shadow.initialised:
            assert outcome.errno == shadow.file.encl.profile.init.again
        elif good:
            assert outcome.value == 0
            shadow.initialised = True
        else:
            assert outcome.errno == errno.EPERM

    # Mapping.

    def allowed(self, shadow: Shadow, first: int, last: int, prot: int) -> bool:
        """The common rule of mmap and mprotect, page by page."""
        if self.map_rules.none_is_free and not prot:
            return True
        if self.map_rules.range_after_init and shadow.initialised and (first < 0 or last > PAGES):
            return False
        pages = range(first, last)
        if not self.map_rules.holes and any(page not in shadow.ceilings for page in pages):
            return False
        return not any(prot & ~shadow.ceilings.get(page, 7) for page in pages)

    @rule(process=processes, shadow=files, first=starts, count=lengths, prot=prots)
    def mmap(self, process: Process, shadow: Shadow, first: int, count: int, prot: int) -> None:
        address = BASE + first * PAGE_SIZE
        outcome = process.mm.mmap(address, count * PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED, shadow.file)
        for page in range(first, first + count):
            process.pages.pop(page, None)
        if self.allowed(shadow, first, first + count, prot):
            assert outcome.value == address
            for page in range(first, first + count):
                process.pages[page] = (shadow, prot, False)
        else:
            assert outcome.errno == errno.EACCES
        self.forget_dead_enclaves()

    @rule(process=processes, first=starts, count=lengths)
    def munmap(self, process: Process, first: int, count: int) -> None:
        assert process.mm.munmap(BASE + first * PAGE_SIZE, count * PAGE_SIZE).value == 0
        for page in range(first, first + count):
            process.pages.pop(page, None)
        self.forget_dead_enclaves()

    @rule(process=processes, first=starts, count=lengths, prot=prots)
    def mprotect(self, process: Process, first: int, count: int, prot: int) -> None:
        vmas = {
            p: v
            for v in process.mm.vmas
            for p in range((v.start - BASE) // PAGE_SIZE, (v.end - BASE) // PAGE_SIZE)
        }
        outcome = process.mm.mprotect(BASE + first * PAGE_SIZE, count * PAGE_SIZE, prot)
        expected, page = 0, first
        while page < first + count and not expected:
            if page not in process.pages:
                expected = errno.ENOMEM
                break
            end = page
            while end < first + count and vmas.get(end) is vmas[page]:
                end += 1
            shadow = process.pages[page][0]
            if not self.allowed(shadow, page, end, prot):
                expected = errno.EACCES
                break
            for inside in range(page, end):
                process.pages[inside] = (shadow, prot, process.pages[inside][2])
            page = end
        assert outcome.errno == expected

    @rule(process=processes, first=starts, count=lengths)
    def dont_fork(self, process: Process, first: int, count: int) -> None:
        outcome = process.mm.madvise(BASE + first * PAGE_SIZE, count * PAGE_SIZE, MADV_DONTFORK)
        whole = True
        for page in range(first, first + count):
            if page in process.pages:
                process.pages[page] = (*process.pages[page][:2], True)
            else:
                whole = False
        assert outcome.errno == (0 if whole else errno.ENOMEM)

    # Processes.

    @precondition(lambda self: len(self.running) < 4)
    @rule(target=processes, process=processes)
    def fork(self, process: Process) -> Process:
        child = Process(process.mm.fork())
        child.pages = {at: (s, prot, False) for at, (s, prot, kept) in process.pages.items() if not kept}
        self.running.append(child)
        return child

    @precondition(lambda self: len(self.running) > 1)
    @rule(target=processes, process=consumes(processes))
    def exit(self, process: Process) -> object:
        process.mm.exit()
        process.pages.clear()
        self.running = [p for p in self.running if p is not process]
        self.forget_dead_enclaves()
        return multiple()

    # Debugging.

    @rule(
        process=processes,
        page=starts,
        word=st.integers(0, 511),
        value=st.none() | st.binary(min_size=8, max_size=8),
    )
    def debug(self, process: Process, page: int, word: int, value: bytes | None) -> None:
        address = BASE + page * PAGE_SIZE + 8 * word
        got = peek(process.mm, address) if value is None else poke(process.mm, address, value)
        shadow, prot, _ = process.pages.get(page, (None, 0, False))
        ready = shadow is not None and shadow.created and page in shadow.contents
        if ready and shadow is not None:
            ready = not prot & ~shadow.ceilings[page]
            ready &= shadow.initialised or not shadow.file.encl.profile.debug_needs_init
            if shadow.file.encl.page_type[page] == PageType.TCS:
                ready &= word < 9 if value is None else word == 1
        if not ready or shadow is None:
            assert isinstance(got, Outcome)
            assert got.errno == errno.EIO
        elif value is None:
            assert got == shadow.contents[page][8 * word : 8 * word + 8]
        else:
            old = shadow.contents[page]
            shadow.contents[page] = old[: 8 * word] + value + old[8 * word + 8 :]

    # Invariants.

    @invariant()
    def every_enclave_page_has_a_valid_secs(self) -> None:
        if not hasattr(self, "world"):
            return
        cpu = self.world.cpu
        for frame in range(EPC_PAGES):
            entry = cpu.epcm[frame]
            if entry.state & EpcmState.VALID and entry.pt in (PageType.REG, PageType.TCS):
                assert cpu.is_secs(entry.secs)
                state = cpu.enclaves[entry.secs]
                offset = entry.enclaveaddress - state.store.head.baseaddr
                assert 0 <= offset < state.store.head.size
                assert state.store.frame_map[offset // PAGE_SIZE] == frame + 1

    @invariant()
    def the_secs_counts_its_children(self) -> None:
        if not hasattr(self, "world"):
            return
        for frame, state in self.world.cpu.enclaves.items():
            assert state.children == len(self.world.cpu.epcm.children(frame))
            assert state.children == (state.store.frame_map != 0).sum()

    @invariant()
    def every_frame_is_free_or_valid(self) -> None:
        if not hasattr(self, "world"):
            return
        cpu = self.world.cpu
        valid = sum(cpu.epcm.valid(frame) for frame in range(EPC_PAGES))
        assert valid + cpu.epc.free_count == EPC_PAGES

    @invariant()
    def every_enclave_has_as_many_va_pages_as_it_needs(self) -> None:
        for shadow in self.shadows:
            encl = shadow.file.encl
            assert len(encl.va_pages) == (1 if encl.created else 0)
            assert encl.page_count == (1 + len(shadow.ceilings) if encl.created else 0)

    @invariant()
    def contents_and_ceilings_are_what_was_added(self) -> None:
        for shadow in self.shadows:
            encl = shadow.file.encl
            assert (encl.created, encl.initialised) == (shadow.created, shadow.initialised)
            if shadow.created:
                there = {int(i): int(encl.max_prot[i]) for i in encl.page_type.nonzero()[0]}
                assert there == shadow.ceilings
                for page, contents in shadow.contents.items():
                    assert bytes(encl.store.page(page * PAGE_SIZE)) == contents

    @invariant()
    def vmas_are_ordered_and_apart_and_as_expected(self) -> None:
        for process in self.running:
            seen: dict[int, tuple[int, int]] = {}
            end = 0
            for vma in process.mm.vmas:
                assert end <= vma.start < vma.end
                end = vma.end
                for at in range(vma.start, vma.end, PAGE_SIZE):
                    seen[(at - BASE) // PAGE_SIZE] = (id(vma.file), vma.prot)
            expected = {at: (id(s.file), prot) for at, (s, prot, _) in process.pages.items()}
            assert seen == expected

    @invariant()
    def mapping_bytes_are_those_of_the_vmas(self) -> None:
        for process in self.running:
            for encl, mapping in process.mm.mappings.items():
                assert mapping in encl.mappings
                if mapping.vma_bits is None:
                    assert not encl.created
                    continue
                expected = [0] * PAGES
                for at, (shadow, prot, _) in process.pages.items():
                    if shadow.file.encl is encl and 0 <= at < PAGES:
                        expected[at] = VmaBits.MAPPED | prot
                assert mapping.bits.tolist() == expected

    @invariant()
    def no_mapping_is_effective_beyond_ceiling_and_epcm(self) -> None:
        for process in self.running:
            for vma in process.mm.vmas:
                at = vma.start
                for run in vma.encl.runs(vma.start, vma.end, vma.prot):
                    assert run.address == at
                    at += run.length
                    self.effective_is_right(vma.encl, run.address, run.length, run.prot, vma.prot)
                assert at == vma.end

    def effective_is_right(self, encl: object, start: int, length: int, effective: int, prot: int) -> None:
        shadow = next(s for s in self.shadows if s.file.encl is encl)
        for address in range(start, start + length, PAGE_SIZE):
            page = (address - BASE) // PAGE_SIZE
            ceiling = shadow.ceilings.get(page)
            tcs = ceiling is not None and shadow.file.encl.page_type[page] == PageType.TCS
            if ceiling is None or tcs or prot & ~ceiling:
                assert effective == 0
            else:
                assert effective == prot & ceiling

    @invariant()
    def an_enclave_lives_as_long_as_descriptors_or_mappings(self) -> None:
        for shadow in self.shadows:
            used = any(s is shadow for p in self.running for s, _, _ in p.pages.values())
            assert shadow.file.released == (not shadow.descriptors and not used)
            assert shadow.file.descriptors == shadow.descriptors


TestPrograms = pytest.mark.slow(Programs.TestCase)
TestPrograms.settings = settings(
    max_examples=settings().max_examples * 6 // 10, stateful_step_count=40, deadline=None
)
