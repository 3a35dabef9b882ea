"""An enclave that changes on an EPC too small for it: any order of ioctls, faults, leaves, evictions and threads.

Beside machine and driver runs a book of what each page must be, wherever it is: a dictionary and a few ifs. It says
what each call must answer; after each step the invariants compare it with the machine's own tables. Another enclave
comes and goes, and needs EPC, too. Threads are actors: what a thread has looked at, it can go on using until it leaves.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from swsgx.cpu.tracking import is_tracked
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageFaultCode, PageType, secinfo_flags
from swsgx.isa.leaves import Enclu
from swsgx.isa.structs import Secinfo
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.encl import Encl
from swsgx.linux.fault import FaultAction, augment, resolve
from swsgx.linux.inside import Executed, execute
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED, AddressSpace
from swsgx.native.abi import EpcmState, VmaBits
from tests.make.world import BASE, REG_RW, REG_RWX, TCS, World, a_tcs, make_world

#: SECS and VA page of two enclaves, and 8 for pages.
EPC_PAGES = 12
#: Page 0 has the SECINFOs, page 1 is the TCS; what follows is what happens.
FIRST, PAGES = 2, 12
#: Pages of the other enclave.
OTHERS = 4
REG, TRIM = PageType.REG, PageType.TRIM
#: What a thread meets that finds no EPC page where not all can be written out.
WITHOUT = (FaultAction.RETRY, FaultAction.SIGBUS)

pages = st.integers(FIRST, PAGES - 1)
counts = st.integers(1, 5)
perms = st.sampled_from([0, 1, 3, 4, 5, 7])


Argument = (
    type[uapi.EnclaveRestrictPermissions] | type[uapi.EnclaveModifyTypes] | type[uapi.EnclaveRemovePages]
)


@dataclass
class Page:
    """What a page must be."""

    contents: bytes
    page_type: PageType = REG
    perm: int = 3
    pending: bool = True
    modified: bool = False
    restricted: bool = False
    ceiling: int = 7

    @property
    def waits(self) -> bool:
        return self.pending or self.modified

    @property
    def usable(self) -> int:
        return self.perm if self.page_type is REG and not self.waits else 0

    @property
    def is_tcs(self) -> bool:
        """Whether EACCEPT would take it as a TCS: of all that is written here, only the TCS is one."""
        return self.contents == bytes(a_tcs())


@dataclass
class Other:
    """An enclave that needs EPC: what was added to it."""

    file: EnclaveFile
    contents: dict[int, bytes] = field(default_factory=dict)


class Changing(RuleBasedStateMachine):
    """Two processes that map one enclave, on a machine with another."""

    def __init__(self) -> None:
        super().__init__()
        self.book: dict[int, Page] = {}
        self.mms: list[AddressSpace] = []
        #: By the page of its TCS, a thread that is inside: pages whose translations it holds.
        self.threads: dict[int, set[int]] = {}
        self.other: Other | None = None
        self.tag = 0

    @initialize(
        prots=st.lists(st.sampled_from([1, 3, 7]), min_size=2, max_size=2),
        obedient=st.sampled_from([True, True, False, None]),
        lazy=st.booleans(),
        backing=st.sampled_from([0, 1 << 20, 1 << 20, 1 << 20]),
    )
    def boot(self, prots: list[int], obedient: bool | None, lazy: bool, backing: int) -> None:
        self.world: World = make_world(epc_pages=EPC_PAGES, backing_pages=backing)
        self.world.driver.trace.sinks.clear()
        world = self.world
        self.obedient, self.lazy, self.backing = obedient, lazy, backing
        if lazy:
            world.driver.wake = lambda: None
        if obedient is not None:
            world.driver.shootdown = self.shootdown
        self.file = world.open()
        self.encl = self.file.encl
        for outcome in (
            world.create(self.file),
            world.add(self.file, 0, bytes(PAGE_SIZE), REG_RWX)[0],
            world.add(self.file, PAGE_SIZE, bytes(a_tcs()), TCS)[0],
            world.init(self.file),
        ):
            assert outcome.value == 0, outcome.reason
        self.mms = [world.mm, AddressSpace()]
        for mm, prot in zip(self.mms, prots, strict=True):
            mapped = (BASE, PAGES * PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED, self.file)
            # The TCS may be mapped RW at most.
            assert mm.mmap(*mapped).errno == (errno.EACCES if prot == 7 else 0)
            for first, count in ((0, 1), (FIRST, PAGES - FIRST)):
                assert mm.mmap(
                    BASE + first * PAGE_SIZE, count * PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED, self.file
                ).ok
        self.prots = prots

    def teardown(self) -> None:
        if not self.mms:
            return
        for page in list(self.threads):
            self.leave(page)
        if self.backing:
            self.what_comes_back_is_as_the_book_says()
        for mm in self.mms:
            mm.exit()
        self.file.close()
        self.end_the_other()
        cpu, driver = self.world.cpu, self.world.driver
        assert cpu.epc.free_count == EPC_PAGES
        assert not cpu.enclaves
        assert not cpu.written_out
        assert not driver.leaked
        assert not len(driver.reclaimer)
        assert not driver.reclaimer.reclaimable
        cpu.close()

    def what_comes_back_is_as_the_book_says(self) -> None:
        """Nobody is inside any more: each page can be looked at."""
        self.world.driver.wake = self.world.driver.reclaimer.balance
        for page, found in self.book.items():
            assert self.encl.load_page(BASE + page * PAGE_SIZE).ok
            assert bytes(self.encl.store.page(page * PAGE_SIZE)) == found.contents

    # Where pages are.

    def frame(self, page: int) -> int | None:
        found = int(self.encl.store.frame_map[page])
        return found - 1 if found else None

    def blocked(self, page: int) -> bool:
        return bool(self.encl.paging.blocked(np.array([page]))[0])

    @property
    def exact(self) -> bool:
        """Whether the book knows what a call answers: whatever else is in the EPC can be written out if it must."""
        if not self.backing:
            return True
        return self.obedient is True or not (self.threads or (self.lazy and self.stuck))

    @property
    def stuck(self) -> bool:
        """Whether a page waits for a thread, or waited for one that has left since."""
        return bool(self.encl.paging.blocked(np.arange(PAGES)).any())

    @property
    def exact_in_ioctls(self) -> bool:
        """The same for ioctls, which reclaim a page for each that they change, and do not try again."""
        free = self.world.cpu.epc.free_count
        return self.exact and not self.stuck and (not self.backing or self.encl.secs is not None or free > 1)

    def load(self, page: int) -> bool:
        """Have a page in the EPC, and not on its way out."""
        if self.frame(page) is None or self.blocked(page):
            outcome = self.encl.load_page(BASE + page * PAGE_SIZE)
            if not outcome.ok:
                assert outcome.errno in (errno.EAGAIN, errno.ENOMEM)
                assert self.lazy or not self.exact
                return False
        return True

    # Threads.

    @rule(page=st.just(1) | pages)
    def enter_or_leave(self, page: int) -> None:
        """A thread enters by a TCS, or leaves what may have been trimmed meanwhile."""
        if page in self.threads:
            self.leave(page)
        elif self.can_enter(page) and self.load(page):
            self.enter(page)

    def can_enter(self, page: int) -> bool:
        found = self.book.get(page)
        return page == 1 or (
            found is not None and found.page_type is PageType.TCS and not found.modified and found.is_tcs
        )

    def enter(self, page: int) -> None:
        self.activate(page, 1)
        self.threads[page] = {page}

    def leave(self, page: int) -> None:
        self.activate(page, 0)
        del self.threads[page]

    def activate(self, page: int, inside: int) -> None:
        """What EENTER and EEXIT write. The TCS of a thread that is inside cannot have left the EPC."""
        assert self.frame(page) is not None
        self.encl.store.page(page * PAGE_SIZE)[0] = inside
        if page in self.book:
            self.book[page].contents = bytes([inside]) + self.book[page].contents[1:]

    def shootdown(self, encl: Encl) -> bool:
        """Make the enclave's threads leave, and come back where they can, if they do as they are told."""
        if encl is not self.encl or not self.threads:
            return True
        if not self.obedient:
            return False
        for page in list(self.threads):
            self.leave(page)
            if self.can_enter(page) and not self.blocked(page):
                self.enter(page)
        return True

    @rule(page=pages)
    def look(self, page: int) -> None:
        """A thread inside reads a page, where it may."""
        found = self.book.get(page)
        if self.threads and found is not None and found.usable & 1 and self.load(page):
            for held in list(self.threads.values())[:1]:
                held.add(page)

    @rule(page=pages, what=st.sampled_from(["a", "b", "TCS"]))
    def store(self, page: int, what: str) -> None:
        """Enclave code writes a page, where it may; a thread that holds it may though it is on its way out."""
        found = self.book.get(page)
        held = any(page in held for held in self.threads.values())
        if found is not None and found.usable & 2 and (held or self.load(page)):
            found.contents = bytes(a_tcs()) if what == "TCS" else what.encode() * PAGE_SIZE
            self.encl.store.page(page * PAGE_SIZE)[:] = found.contents

    # Faults.

    def touched(self, which: int, page: int, *, write: bool) -> FaultAction:
        """What a page fault must come to."""
        prot = self.prots[which]
        if write and not prot & 2:
            return FaultAction.SEGV_ACCERR
        found = self.book.get(page)
        if found is None:
            return FaultAction.RETRY if self.backing or self.world.cpu.epc.free_count else FaultAction.SIGBUS
        return FaultAction.SIGBUS if prot & ~found.ceiling else FaultAction.RETRY

    def appeared(self, *touched: int) -> None:
        """The book gets the pages that a call has made where it touched a hole."""
        for page in touched:
            if page not in self.book and self.encl.page_type[page]:
                self.book[page] = Page(bytes(PAGE_SIZE))

    @rule(which=st.integers(0, 1), page=pages, write=st.booleans())
    def fault(self, which: int, page: int, write: bool) -> None:
        code = PageFaultCode.U | PageFaultCode.W if write else PageFaultCode.U
        expected, exact = self.touched(which, page, write=write), self.exact
        found = resolve(self.mms[which], BASE + page * PAGE_SIZE, code).action
        self.appeared(page)
        assert found is expected or (not exact and found in WITHOUT and expected is FaultAction.RETRY)
        if exact and expected is FaultAction.RETRY:
            assert page in self.book
            assert self.present(which, page)

    @rule(first=pages, count=counts)
    def ahead(self, first: int, count: int) -> None:
        """Pages are added before somebody touches them."""
        count = min(count, PAGES - first)
        holes = next((at - first for at in range(first, first + count) if at in self.book), count)
        exact = self.exact and self.backing
        added, outcome = augment(self.encl, first, count)
        self.appeared(*range(first, first + added))
        assert added == holes or (not exact and outcome.errno == errno.ENOMEM)
        assert added <= holes

    # Leaves.

    def execute(self, which: int, leaf: Enclu, flags: int, page: int, source: int = 0) -> Executed | None:
        if not self.load(0):
            return None
        self.encl.store.page(0)[:64] = bytes(Secinfo.of(flags=flags).buffer)
        at = BASE + page * PAGE_SIZE
        return execute(self.mms[which], self.encl, leaf, BASE, at, BASE + source * PAGE_SIZE)

    def present(self, which: int, page: int) -> bool:
        bits = self.mms[which].mappings[self.encl].bits
        return bool(bits[page] & VmaBits.PRESENT) and self.frame(page) is not None and not self.blocked(page)

    def operand(self, which: int, page: int, *, write: bool = False) -> FaultAction | None:
        """What keeps a leaf from the page: nothing, or what its fault comes to."""
        prot = self.prots[which]
        if self.present(which, page):
            return FaultAction.SEGV_ACCERR if write and not prot & 2 else None
        found = self.touched(which, page, write=write)
        return None if found is FaultAction.RETRY else found

    def came_to_it(self, done: Executed | None, refused: FaultAction | None, exact: bool) -> Executed | None:
        """How the leaf ended, if nothing kept it from its operands."""
        if done is None:
            return None
        if not exact and done.resolution is not None and done.resolution.action in WITHOUT:
            return None
        if refused is not None:
            assert done.resolution is not None
            assert done.resolution.action is refused
            return None
        return done

    @rule(
        which=st.integers(0, 1),
        page=pages,
        flags=st.sampled_from([0x20B, 0x20F, 0x220, 0x221, 0x223, 0x225, 0x110, 0x410]),
    )
    def eaccept(self, which: int, page: int, flags: int) -> None:
        exact, refused = self.exact, self.operand(which, page)
        done = self.came_to_it(self.execute(which, Enclu.EACCEPT, flags, page), refused, exact)
        self.appeared(page)
        if done is None:
            return
        found = self.book[page]
        as_it_is = (found.pending, found.modified, found.perm, found.page_type)
        if as_it_is != (bool(flags & 8), bool(flags & 16), flags & 7, PageType(flags >> 8)):
            assert done.result is not None
            assert done.result.rax == 19
        elif found.page_type is PageType.TCS and not found.is_tcs:
            assert done.fault is not None
            assert (done.fault.mnemonic, done.resolution) == ("#GP(0)", None)
        else:
            assert done.result is not None
            assert done.result.ok, str(done.result)
            found.pending = found.modified = found.restricted = False

    @rule(which=st.integers(0, 1), page=pages, source=pages, perm=perms)
    def eacceptcopy(self, which: int, page: int, source: int, perm: int) -> None:
        exact = self.exact
        refused = self.operand(which, page, write=True)
        if refused is None and not self.backing and page not in self.book and source not in self.book:
            self.fault(which, page, write=True)
        refused = refused or self.operand(which, source)
        flags = secinfo_flags(REG, perm)
        done = self.came_to_it(self.execute(which, Enclu.EACCEPTCOPY, flags, page, source), refused, exact)
        self.appeared(page, source)
        if done is None:
            return
        new, old = self.book[page], self.book[source]
        if not old.usable & 1:
            assert done.fault is not None
            assert done.fault.error_code == 0x8005
        elif (new.pending, new.modified, new.page_type, new.perm) != (True, False, REG, 3):
            assert done.result is not None
            assert done.result.rax == 19
        else:
            assert done.result is not None
            assert done.result.ok
            new.contents, new.perm, new.pending = old.contents, perm, False

    @rule(which=st.integers(0, 1), page=pages, perm=perms)
    def emodpe(self, which: int, page: int, perm: int) -> None:
        exact, refused = self.exact, self.operand(which, page)
        done = self.came_to_it(self.execute(which, Enclu.EMODPE, perm, page), refused, exact)
        self.appeared(page)
        if done is None:
            return
        found = self.book[page]
        if found.waits or found.page_type is not REG:
            assert done.fault is not None
            assert done.fault.error_code == 0x8005
        else:
            assert done.fault is None
            found.perm |= perm

    # ioctls.

    def change(
        self,
        code: int,
        layout: Argument,
        first: int,
        count: int,
        judge: Callable[[Page], tuple[int, int]],
        effect: Callable[[int, Page], None],
        **values: int,
    ) -> None:
        """One of the three: ``judge`` says errno and code for a page, and ``effect`` puts a change into the book."""
        expected, at = (0, 0), first
        while at < first + count and not any(expected):
            found = self.book.get(at)
            expected = (errno.EFAULT, 0) if found is None else judge(found)
            at += not any(expected)
        exact = self.exact_in_ioctls
        given = {"offset": first * PAGE_SIZE, "length": count * PAGE_SIZE} | values
        arg = self.world.memory.put(layout.of(**given))
        outcome = self.file.ioctl(self.world.task, code, arg)
        back = layout(self.world.memory.read(arg, layout.size_of))
        done = back.count // PAGE_SIZE
        got = (outcome.errno, getattr(back, "result", 0), done)
        if exact or got[0] not in (errno.EAGAIN, errno.EFAULT) or got[1]:
            assert got == (*expected, at - first)
        assert done <= at - first
        for page in range(first, first + done):
            effect(page, self.book[page])

    @rule(first=pages, count=counts, perm=perms)
    def restrict(self, first: int, count: int, perm: int) -> None:
        def judge(found: Page) -> tuple[int, int]:
            if found.page_type is not REG:
                return errno.EINVAL, 0
            return (errno.EFAULT, 20) if found.waits else (0, 0)

        def effect(page: int, found: Page) -> None:
            found.perm &= perm
            found.restricted = True

        code, layout = uapi.SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, uapi.EnclaveRestrictPermissions
        self.change(code, layout, first, min(count, PAGES - first), judge, effect, permissions=perm)

    @rule(first=pages, count=counts, kind=st.sampled_from([PageType.TCS, TRIM]))
    def modify(self, first: int, count: int, kind: PageType) -> None:
        sources = (REG,) if kind is PageType.TCS else (REG, PageType.TCS)

        def judge(found: Page) -> tuple[int, int]:
            if found.page_type not in sources:
                return errno.EINVAL, 0
            return (errno.EFAULT, 20) if found.waits else (0, 0)

        def effect(page: int, found: Page) -> None:
            found.page_type, found.perm, found.modified, found.restricted = kind, 0, True, False
            found.ceiling = 3 if kind is PageType.TCS else found.ceiling

        code, layout = uapi.SGX_IOC_ENCLAVE_MODIFY_TYPES, uapi.EnclaveModifyTypes
        self.change(code, layout, first, min(count, PAGES - first), judge, effect, page_type=int(kind))

    @rule(first=pages, count=counts)
    def remove(self, first: int, count: int) -> None:
        def judge(found: Page) -> tuple[int, int]:
            return (errno.EPERM, 0) if found.page_type is not TRIM or found.modified else (0, 0)

        def effect(page: int, found: Page) -> None:
            del self.book[page]
            self.threads.pop(page, None)
            for held in self.threads.values():
                held.discard(page)

        code, layout = uapi.SGX_IOC_ENCLAVE_REMOVE_PAGES, uapi.EnclaveRemovePages
        self.change(code, layout, first, min(count, PAGES - first), judge, effect)

    # The reclaimer, and who else needs EPC.

    @rule(count=st.integers(1, 20))
    def reclaim(self, count: int) -> None:
        self.world.driver.reclaimer.reclaim(count)

    @rule()
    def balance(self) -> None:
        self.world.driver.reclaimer.balance()

    @precondition(lambda self: self.other is None)
    @rule(init=st.booleans())
    def build_another(self, init: bool) -> None:
        world = self.world
        other = self.other = Other(world.open())
        outcome = world.create(other.file)
        for page in range(OTHERS):
            if not outcome.ok:
                assert outcome.errno == errno.ENOMEM
                assert not self.exact or not self.backing
                return
            self.tag += 1
            data = self.tag.to_bytes(8, "little") * 512
            outcome, _ = world.add(other.file, page * PAGE_SIZE, data, REG_RW, measured=False)
            if outcome.ok:
                other.contents[page] = data
        if outcome.ok and init:
            assert world.init(other.file).ok

    @rule(page=st.integers(0, OTHERS - 1))
    def use_the_other(self, page: int) -> None:
        if self.other is not None and page in self.other.contents:
            outcome = self.other.file.encl.load_page(BASE + page * PAGE_SIZE)
            assert outcome.ok or outcome.errno in (errno.EAGAIN, errno.ENOMEM)

    @rule()
    def end_the_other(self) -> None:
        if self.other is not None:
            self.other.file.close()
            self.other = None

    # What the smaller rules would seldom reach.

    @rule(which=st.integers(0, 1), first=pages, count=counts)
    def grow(self, which: int, first: int, count: int) -> None:
        """A run of new pages."""
        for page in range(first, min(first + count, PAGES)):
            self.eaccept(which, page, 0x20B)

    @rule(which=st.integers(0, 1))
    def accept_all(self, which: int) -> None:
        """The enclave agrees to everything."""
        for page, found in list(self.book.items()):
            if found.waits or found.restricted:
                flags = secinfo_flags(found.page_type, found.perm)
                flags |= 8 * found.pending | 16 * found.modified | 32 * found.restricted
                self.eaccept(which, page, flags)

    @rule(page=pages)
    def make_a_tcs(self, page: int) -> None:
        """The usual way to a new thread."""
        self.eaccept(0, page, 0x20B)
        self.store(page, "TCS")
        self.modify(page, 1, PageType.TCS)
        self.eaccept(0, page, 0x110)

    @rule(which=st.integers(0, 1), page=pages, source=pages, perm=perms)
    def copy(self, which: int, page: int, source: int, perm: int) -> None:
        """A page with contents, and a new one that gets them."""
        self.eaccept(which, source, 0x20B)
        self.store(source, "a")
        self.fault(which, page, write=False)
        self.eacceptcopy(which, page, source, perm)

    @rule(first=pages, count=counts, what=st.booleans())
    def make_some_tcss(self, first: int, count: int, what: bool) -> None:
        """Many at once, whatever is in them."""
        self.grow(0, first, count)
        if what:
            self.reclaim(20)
        self.modify(first, count, PageType.TCS)

    @precondition(lambda self: any(page.usable for page in self.book.values()))
    @rule()
    def trim_and_remove_all(self) -> None:
        """Page by page."""
        for page in [at for at, found in self.book.items() if found.usable]:
            self.modify(page, 1, TRIM)
            self.eaccept(0, page, 0x410)
            self.remove(page, 1)

    @rule(first=pages, count=counts, waits=st.none() | st.integers(1, 4), gone=st.none() | st.integers(1, 4))
    def trim_and_remove_some(self, first: int, count: int, waits: int | None, gone: int | None) -> None:
        """Many at once; maybe one that was not accepted is among them, or one is gone already."""
        self.grow(0, first, count)
        self.modify(first, count, TRIM)
        for page in range(first, min(first + count, PAGES)):
            if page in self.book and page - first != waits:
                self.eaccept(0, page, 0x410)
        if gone is not None and first + gone < PAGES:
            self.remove(first + gone, 1)
        self.remove(first, count)

    # Invariants.

    @property
    def encls(self) -> list[Encl]:
        """Enclaves that have a range."""
        if not self.mms:
            return []
        found = [self.encl] if self.other is None else [self.encl, self.other.file.encl]
        return [encl for encl in found if encl.created]

    @invariant()
    def every_valid_page_has_a_secs(self) -> None:
        for frame in range(EPC_PAGES if self.mms else 0):
            cpu = self.world.cpu
            entry = cpu.epcm[frame]
            if cpu.epcm.valid(frame) and entry.pt not in (PageType.SECS, PageType.VA):
                assert cpu.is_secs(entry.secs)
                assert cpu.enclaves[entry.secs].frame == entry.secs

    @invariant()
    def child_counts_agree(self) -> None:
        for encl in self.encls:
            children = 0 if encl.secs is None else len(self.world.cpu.epcm.children(encl.secs))
            assert encl.state.children == children == (encl.store.frame_map != 0).sum()
            if encl.secs is not None:
                assert encl.store.head.secs_frame == encl.secs

    @invariant()
    def no_frame_is_in_two_places(self) -> None:
        frames = [int(frame) - 1 for encl in self.encls for frame in encl.store.frame_map if frame]
        frames += [frame for encl in self.encls for frame in encl.va_pages]
        frames += [encl.secs for encl in self.encls if encl.secs is not None]
        assert len(frames) == len(set(frames))
        assert all(self.world.cpu.epcm.valid(frame) for frame in frames)

    @invariant()
    def the_sum_of_frames_is_constant(self) -> None:
        if not self.mms:
            return
        cpu = self.world.cpu
        valid = sum(cpu.epcm.valid(frame) for frame in range(EPC_PAGES))
        assert valid + cpu.epc.free_count == EPC_PAGES

    @invariant()
    def nothing_is_evicted_while_a_thread_could_hold_it(self) -> None:
        for page in {page for held in self.threads.values() for page in held}:
            assert self.frame(page) is not None

    @invariant()
    def a_page_is_in_the_epc_or_out(self) -> None:
        for encl in self.encls:
            there = encl.page_type != 0
            resident = encl.store.frame_map != 0
            out = np.array([encl.paging.is_evicted(page) for page in range(len(there))])
            assert (there == (resident | out)).all()
            assert not (resident & out).any()
            assert encl.paging.evicted == out.sum()
            assert encl.paging.slots.used == out.sum() + (encl.secs is None)
            assert encl.secs is not None or (encl.initialised and not resident.any())

    @invariant()
    def what_is_in_the_epc_is_on_the_list_or_on_its_way_out(self) -> None:
        listed = 0
        for encl in self.encls:
            resident = encl.store.frame_map != 0
            on_its_way = encl.paging.blocked(np.arange(len(resident)))
            assert (encl.listed != 0).tolist() == (resident & ~on_its_way).tolist()
            listed += int(encl.listed.sum())
        assert not self.mms or listed == len(self.world.driver.reclaimer)

    @invariant()
    def the_epcm_is_as_the_book_says(self) -> None:
        for at in range(FIRST, PAGES if self.mms else FIRST):
            frame, found = self.frame(at), self.book.get(at)
            if frame is None:
                assert found is None or self.encl.paging.is_evicted(at)
                continue
            assert found is not None
            entry = self.world.cpu.epcm[frame]
            state = EpcmState.VALID
            state |= EpcmState.PENDING if found.pending else EpcmState(0)
            state |= EpcmState.MODIFIED if found.modified else EpcmState(0)
            state |= EpcmState.PR if found.restricted else EpcmState(0)
            assert (entry.pt, entry.perm) == (found.page_type, found.perm)
            assert entry.state & ~int(EpcmState.BLOCKED) == state
            assert entry.enclaveaddress == BASE + at * PAGE_SIZE

    @invariant()
    def the_drivers_books_agree_with_the_book(self) -> None:
        if not self.mms:
            return
        expected = {at: (int(found.page_type), found.ceiling) for at, found in self.book.items()}
        kinds, ceilings = self.encl.page_type, self.encl.max_prot
        assert {
            at: (int(kinds[at]), int(ceilings[at])) for at in range(FIRST, PAGES) if kinds[at]
        } == expected
        assert self.encl.page_count == 3 + len(self.book)
        assert len(self.encl.va_pages) == 1

    @invariant()
    def contents_are_as_the_book_says_and_nothing_stays_of_what_is_out(self) -> None:
        for at in range(FIRST, PAGES if self.mms else FIRST):
            found = self.book.get(at)
            gone = found is None or self.frame(at) is None
            contents = bytes(PAGE_SIZE) if gone or found is None else found.contents
            assert bytes(self.encl.store.page(at * PAGE_SIZE)) == contents

    @invariant()
    def the_other_enclave_is_as_it_was_built(self) -> None:
        if self.other is None:
            return
        store = self.other.file.encl.store if self.other.contents else None
        for page, data in self.other.contents.items():
            assert store is not None
            resident = bool(store.frame_map[page])
            assert bytes(store.page(page * PAGE_SIZE)) == (data if resident else bytes(PAGE_SIZE))

    @invariant()
    def nothing_that_waits_or_leaves_is_usable_and_nothing_goes_beyond_epcm_and_ceiling(self) -> None:
        for prot in (1, 3, 7) if self.mms else ():
            effective = self.encl.effective(FIRST, PAGES, prot).tolist()
            for at, got in enumerate(effective, FIRST):
                found = self.book.get(at)
                there = found is not None and self.frame(at) is not None and not self.blocked(at)
                allowed = there and found is not None and not prot & ~found.ceiling
                assert got == (found.usable & prot if allowed and found is not None else 0)

    @invariant()
    def what_the_driver_changed_is_tracked(self) -> None:
        if not self.mms or self.encl.secs is None:
            return
        for at in self.book:
            frame = self.frame(at)
            if frame is not None and not self.blocked(at):
                epoch = self.world.cpu.epcm[frame].epoch
                assert is_tracked(self.world.cpu.tracker, self.encl.state, epoch)

    @invariant()
    def no_page_table_entry_leads_to_what_is_not_there_or_to_a_new_tcs(self) -> None:
        for which, mm in enumerate(self.mms):
            bits = mm.mappings[self.encl].bits
            for at in range(PAGES):
                found = self.book.get(at)
                if bits[at] & VmaBits.PRESENT:
                    assert self.frame(at) is not None
                    assert not self.blocked(at)
                    assert at < FIRST or found is not None
                    assert found is None or not self.prots[which] & ~found.ceiling

    @invariant()
    def threads_inside_are_those_that_entered(self) -> None:
        if self.mms and self.encl.secs is not None:
            assert self.world.cpu.threads_inside(self.encl.secs) == len(self.threads)
        assert not self.mms or self.encl.secs is not None or not self.threads


TestChanging = pytest.mark.slow(Changing.TestCase)
TestChanging.settings = settings(
    max_examples=settings().max_examples * 8 // 10, stateful_step_count=50, deadline=None
)
