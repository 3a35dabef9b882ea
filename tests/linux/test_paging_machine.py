"""A tiny EPC that several enclaves share: any order of building, touching, entering, reclaiming and ending.

Threads are actors: what a thread has looked at, it can go on using until it leaves. The machine's tables are walked
after each step by invariants with names.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageType
from swsgx.linux.device import EnclaveFile
from swsgx.linux.encl import Encl
from swsgx.native.abi import EpcmState
from tests.make.world import BASE, REG_RW, TCS, World, a_tcs, make_world

#: Pages of each enclave: the last is its TCS.
PAGES = 5
TCS_PAGE = PAGES - 1

pages = st.integers(0, PAGES - 1)


@dataclass
class Enclave:
    """What the test knows of one."""

    file: EnclaveFile
    contents: dict[int, bytes] = field(default_factory=dict)
    #: Pages whose translations the thread inside holds; None: nobody is inside.
    held: set[int] | None = None
    broken: bool = False

    @property
    def encl(self) -> Encl:
        return self.file.encl


class Paging(RuleBasedStateMachine):
    """Enclaves of five pages each on an EPC of 8 to 16."""

    enclaves = Bundle("enclaves")

    @initialize(frames=st.integers(8, 16), obedient=st.sampled_from([True, False, None]), lazy=st.booleans())
    def boot(self, frames: int, obedient: bool | None, lazy: bool) -> None:
        self.world: World = make_world(epc_pages=frames)
        self.world.driver.trace.sinks.clear()
        self.frames = frames
        self.alive: list[Enclave] = []
        self.tag = 0
        if lazy:
            self.world.driver.wake = lambda: None
        if obedient is not None:
            self.obedient = obedient
            self.world.driver.shootdown = self.shootdown

    def shootdown(self, encl: Encl) -> bool:
        """Make the enclave's threads leave, and come back where they can, if they do as they are told."""
        for enclave in self.alive:
            if enclave.encl is encl and enclave.held is not None:
                if not self.obedient:
                    return False
                self.activate(enclave, inside=False)
                enclave.held = None
                self.resume(enclave)
        return True

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for enclave in self.alive:
            if enclave.held is not None:
                self.activate(enclave, inside=False)
            enclave.file.close()
        cpu = self.world.cpu
        assert cpu.epc.free_count == self.frames
        assert not cpu.enclaves
        assert not cpu.written_out
        assert not self.world.driver.leaked
        assert not self.world.driver.reclaimer.reclaimable
        cpu.close()

    # Rules.

    @rule(target=enclaves, init=st.booleans())
    def build(self, init: bool) -> Enclave:
        enclave = Enclave(self.world.open())
        self.alive.append(enclave)
        if not self.world.create(enclave.file).ok:
            return enclave
        for page in range(PAGES):
            self.tag += 1
            data = self.tag.to_bytes(8, "little") * 512 if page != TCS_PAGE else bytes(a_tcs())
            flags = REG_RW if page != TCS_PAGE else TCS
            outcome, _ = self.world.add(enclave.file, page * PAGE_SIZE, data, flags, measured=False)
            if not outcome.ok:
                assert outcome.errno == errno.ENOMEM
                return enclave
            enclave.contents[page] = data
        if init:
            assert self.world.init(enclave.file).ok
        return enclave

    @rule(enclave=enclaves, page=pages)
    def touch(self, enclave: Enclave, page: int) -> None:
        outcome = enclave.encl.load_page(BASE + page * PAGE_SIZE)
        if page not in enclave.contents or enclave.broken:
            assert outcome.errno == errno.EFAULT
        elif outcome.ok:
            if enclave.held is not None:
                enclave.held.add(page)
        else:
            assert outcome.errno in (errno.EAGAIN, errno.ENOMEM)

    @rule(enclave=enclaves, page=st.integers(0, TCS_PAGE - 1), value=st.binary(min_size=8, max_size=8))
    def store(self, enclave: Enclave, page: int, value: bytes) -> None:
        """The thread inside writes to a page whose translation it holds, blocked or not."""
        if enclave.held is not None and page in enclave.held:
            enclave.encl.store.page(page * PAGE_SIZE)[:8] = value
            enclave.contents[page] = value + enclave.contents[page][8:]

    @rule(enclave=enclaves)
    def enter(self, enclave: Enclave) -> None:
        if enclave.held is not None or not enclave.encl.initialised:
            return
        if enclave.encl.load_page(BASE + TCS_PAGE * PAGE_SIZE).ok:
            self.resume(enclave)

    def resume(self, enclave: Enclave) -> None:
        """Enter, if EENTER or ERESUME would."""
        frame = int(enclave.encl.store.frame_map[TCS_PAGE]) - 1
        if frame >= 0 and self.world.cpu.epcm[frame].state == EpcmState.VALID:
            enclave.held = {TCS_PAGE}
            self.activate(enclave, inside=True)

    @rule(enclave=enclaves)
    def leave(self, enclave: Enclave) -> None:
        if enclave.held is not None:
            self.activate(enclave, inside=False)
            enclave.held = None

    def activate(self, enclave: Enclave, *, inside: bool) -> None:
        """What EENTER and EEXIT write. The TCS of a thread that is inside cannot have left the EPC."""
        assert enclave.encl.store.frame_map[TCS_PAGE]
        enclave.encl.store.page(TCS_PAGE * PAGE_SIZE)[0] = int(inside)

    @rule(count=st.integers(1, 20))
    def reclaim(self, count: int) -> None:
        self.world.driver.reclaimer.reclaim(count)

    @rule()
    def balance(self) -> None:
        self.world.driver.reclaimer.balance()

    @rule(enclave=consumes(enclaves))
    def end(self, enclave: Enclave) -> None:
        if enclave.held is not None:
            self.activate(enclave, inside=False)
        self.alive.remove(enclave)
        enclave.file.close()

    @rule(enclave=enclaves, page=pages, bit=st.integers(0, 8 * PAGE_SIZE - 1))
    def spoil(self, enclave: Enclave, page: int, bit: int) -> None:
        """Somebody writes to the backing file; the page is refused, and the enclave ends."""
        paging = enclave.encl.paging
        if not enclave.encl.created or not paging.is_evicted(page) or paging.backing is None:
            return
        paging.backing.page(page)[bit // 8] ^= 1 << bit % 8
        outcome = enclave.encl.load_page(BASE + page * PAGE_SIZE)
        assert not outcome.ok
        enclave.broken = paging.broken is not None
        if not enclave.broken:
            assert outcome.errno in (errno.EAGAIN, errno.ENOMEM)
            paging.backing.page(page)[bit // 8] ^= 1 << bit % 8

    # Invariants.

    @property
    def enclave_frames(self) -> list[int]:
        cpu = self.world.cpu
        types = (PageType.REG, PageType.TCS)
        return [f for f in range(self.frames) if cpu.epcm.valid(f) and cpu.epcm[f].pt in types]

    @invariant()
    def every_valid_page_has_a_secs(self) -> None:
        if not hasattr(self, "world"):
            return
        cpu = self.world.cpu
        for frame in self.enclave_frames:
            assert cpu.is_secs(cpu.epcm[frame].secs)
            assert cpu.enclaves[cpu.epcm[frame].secs].frame == cpu.epcm[frame].secs

    @invariant()
    def child_counts_agree(self) -> None:
        if not hasattr(self, "world"):
            return
        cpu = self.world.cpu
        for frame, state in cpu.enclaves.items():
            assert state.children == len(cpu.epcm.children(frame)) == (state.store.frame_map != 0).sum()
            assert state.store.head.secs_frame == frame
        for state in cpu.written_out.values():
            assert not state.children

    @invariant()
    def no_frame_is_in_two_places(self) -> None:
        if not hasattr(self, "world"):
            return
        frames = [
            int(frame) - 1
            for enclave in self.alive
            if enclave.encl.created
            for frame in enclave.encl.store.frame_map
            if frame
        ]
        frames += [frame for enclave in self.alive for frame in enclave.encl.va_pages]
        frames += [e.encl.secs for e in self.alive if e.encl.secs is not None]
        assert len(frames) == len(set(frames))
        assert all(self.world.cpu.epcm.valid(frame) for frame in frames)

    @invariant()
    def the_sum_of_frames_is_constant(self) -> None:
        if not hasattr(self, "world"):
            return
        cpu = self.world.cpu
        valid = sum(cpu.epcm.valid(frame) for frame in range(self.frames))
        assert valid + cpu.epc.free_count == self.frames

    @invariant()
    def nothing_is_evicted_while_a_thread_could_hold_it(self) -> None:
        for enclave in getattr(self, "alive", ()):
            for page in enclave.held or ():
                assert enclave.encl.store.frame_map[page]

    @invariant()
    def a_page_is_in_the_epc_or_out_and_as_it_was(self) -> None:
        for enclave in getattr(self, "alive", ()):
            encl = enclave.encl
            if not encl.created:
                continue
            out = 0
            for page, data in enclave.contents.items():
                resident = bool(encl.store.frame_map[page])
                assert resident != encl.paging.is_evicted(page)
                out += not resident
                found = bytes(encl.store.page(page * PAGE_SIZE))
                if not resident:
                    assert not any(found), "nothing stays of a page that is out"
                elif page != TCS_PAGE:
                    assert found == data
            assert encl.paging.evicted == out
            secs_out = encl.secs is None
            assert encl.paging.slots.used == out + secs_out
            assert not secs_out or (encl.initialised and out == len(enclave.contents))

    @invariant()
    def blocked_pages_are_effective_nowhere(self) -> None:
        for enclave in getattr(self, "alive", ()):
            encl = enclave.encl
            if encl.created and encl.secs is not None:
                for page in range(PAGES):
                    frame = int(encl.store.frame_map[page]) - 1
                    if frame < 0 or self.world.cpu.epcm[frame].state & EpcmState.BLOCKED:
                        assert not encl.effective(page, page + 1, 3).any()

    @invariant()
    def what_is_in_the_epc_is_on_the_list_or_blocked(self) -> None:
        if not hasattr(self, "world"):
            return
        listed = blocked = 0
        for enclave in self.alive:
            encl = enclave.encl
            if encl.created:
                listed += int(encl.listed.sum())
                for page in enclave.contents:
                    frame = int(encl.store.frame_map[page]) - 1
                    if frame >= 0:
                        stuck = bool(self.world.cpu.epcm[frame].state & EpcmState.BLOCKED)
                        assert bool(encl.listed[page]) != stuck
                        blocked += stuck
        assert listed == len(self.world.driver.reclaimer)


TestPaging = pytest.mark.slow(Paging.TestCase)
TestPaging.settings = settings(stateful_step_count=50, deadline=None)
