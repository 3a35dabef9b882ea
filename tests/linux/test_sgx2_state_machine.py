"""An enclave that changes, on an EPC of 8 pages: any order of ioctls, faults and leaves.

Beside machine and driver runs a book of what each page must be: a dictionary and a few ifs. It says what each call must
answer; after each step the invariants compare it with the machine's own tables.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

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
from swsgx.linux.fault import FaultAction, resolve
from swsgx.linux.inside import Executed, execute
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED, AddressSpace
from swsgx.native.abi import EpcmState, VmaBits
from tests.make.world import BASE, REG_RWX, TCS, World, a_tcs, make_world

EPC_PAGES = 8
#: SECS, VA page, and pages 0 and 1.
TAKEN = 4
#: Page 0 has the SECINFOs, page 1 is the TCS; what follows is what happens.
FIRST, PAGES = 2, 8
REG, TRIM = PageType.REG, PageType.TRIM

pages = st.integers(FIRST, PAGES - 1)
counts = st.integers(1, 4)
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


class Changing(RuleBasedStateMachine):
    """Two processes that map one enclave."""

    def __init__(self) -> None:
        super().__init__()
        self.book: dict[int, Page] = {}
        self.mms: list[AddressSpace] = []
        self.inside: set[int] = set()

    @initialize(prots=st.lists(st.sampled_from([1, 3, 7]), min_size=2, max_size=2))
    def boot(self, prots: list[int]) -> None:
        self.world: World = make_world(epc_pages=EPC_PAGES)
        self.world.driver.trace.sinks.clear()
        world = self.world
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
        for mm in self.mms:
            mm.exit()
        for page in list(self.inside):
            self.enter_or_leave(page)
        self.file.close()
        assert self.world.cpu.epc.free_count == EPC_PAGES
        assert not self.world.driver.leaked
        self.world.cpu.close()

    # Threads.

    @rule(page=st.just(1) | pages)
    def enter_or_leave(self, page: int) -> None:
        """A thread enters by a TCS, or leaves what may have been trimmed meanwhile."""
        found = self.book.get(page)
        usable = page == 1 or (
            found is not None and found.page_type is PageType.TCS and not found.modified and found.is_tcs
        )
        if page not in self.inside and not usable:
            return
        self.inside ^= {page}
        self.encl.store.page(page * PAGE_SIZE)[0] = int(page in self.inside)
        if found is not None:
            found.contents = bytes([int(page in self.inside)]) + found.contents[1:]

    @rule(page=pages, what=st.sampled_from([b"a" * PAGE_SIZE, b"b" * PAGE_SIZE, bytes(a_tcs())]))
    def store(self, page: int, what: bytes) -> None:
        """Enclave code writes a page, where it may."""
        found = self.book.get(page)
        if found is not None and found.usable & 2:
            found.contents = what
            self.encl.store.page(page * PAGE_SIZE)[:] = what

    # Faults.

    def touched(self, which: int, page: int, *, write: bool) -> FaultAction:
        """What a page fault must come to; the book gets the page that appears."""
        prot = self.prots[which]
        if write and not prot & 2:
            return FaultAction.SEGV_ACCERR
        found = self.book.get(page)
        if found is None:
            if len(self.book) == EPC_PAGES - TAKEN:
                return FaultAction.SIGBUS
            self.book[page] = Page(bytes(PAGE_SIZE))
        elif prot & ~found.ceiling:
            return FaultAction.SIGBUS
        return FaultAction.RETRY

    @rule(which=st.integers(0, 1), page=pages, write=st.booleans())
    def fault(self, which: int, page: int, write: bool) -> None:
        code = PageFaultCode.U | PageFaultCode.W if write else PageFaultCode.U
        expected = self.touched(which, page, write=write)
        assert resolve(self.mms[which], BASE + page * PAGE_SIZE, code).action is expected

    # Leaves.

    def execute(self, which: int, leaf: Enclu, flags: int, page: int, source: int = 0) -> Executed:
        self.encl.store.page(0)[:64] = bytes(Secinfo.of(flags=flags).buffer)
        at = BASE + page * PAGE_SIZE
        return execute(self.mms[which], self.encl, leaf, BASE, at, BASE + source * PAGE_SIZE)

    def operand(self, which: int, page: int, *, write: bool = False) -> FaultAction | None:
        """What keeps a leaf from the page: nothing, or what its fault comes to."""
        present = bool(self.mms[which].mappings[self.encl].bits[page] & VmaBits.PRESENT)
        prot = self.prots[which]
        if present:
            return FaultAction.SEGV_ACCERR if write and not prot & 2 else None
        found = self.touched(which, page, write=write)
        return None if found is FaultAction.RETRY else found

    @rule(
        which=st.integers(0, 1),
        page=pages,
        flags=st.sampled_from([0x20B, 0x20F, 0x220, 0x221, 0x223, 0x225, 0x110, 0x410]),
    )
    def eaccept(self, which: int, page: int, flags: int) -> None:
        refused = self.operand(which, page)
        done = self.execute(which, Enclu.EACCEPT, flags, page)
        if refused is not None:
            assert done.resolution is not None
            assert done.resolution.action is refused
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
            assert done.result.ok
            found.pending = found.modified = found.restricted = False

    @rule(which=st.integers(0, 1), page=pages, source=pages, perm=perms)
    def eacceptcopy(self, which: int, page: int, source: int, perm: int) -> None:
        refused = self.operand(which, page, write=True) or self.operand(which, source)
        done = self.execute(which, Enclu.EACCEPTCOPY, secinfo_flags(REG, perm), page, source)
        if refused is not None:
            assert done.resolution is not None
            assert done.resolution.action is refused
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
        refused = self.operand(which, page)
        done = self.execute(which, Enclu.EMODPE, perm, page)
        if refused is not None:
            assert done.resolution is not None
            assert done.resolution.action is refused
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
        self, code: int, layout: Argument, first: int, count: int, **values: int
    ) -> tuple[int, int, int]:
        """errno, code, and pages done."""
        given = {"offset": first * PAGE_SIZE, "length": count * PAGE_SIZE} | values
        arg = self.world.memory.put(layout.of(**given))
        outcome = self.file.ioctl(self.world.task, code, arg)
        back = layout(self.world.memory.read(arg, layout.size_of))
        return outcome.errno, getattr(back, "result", 0), back.count // PAGE_SIZE

    @rule(first=pages, count=counts, perm=perms)
    def restrict(self, first: int, count: int, perm: int) -> None:
        expected, result, at = 0, 0, first
        while at < first + count and not expected:
            found = self.book.get(at)
            if found is None:
                expected = errno.EFAULT
            elif found.page_type is not REG:
                expected = errno.EINVAL
            elif found.waits:
                expected, result = errno.EFAULT, 20
            else:
                found.perm &= perm
                found.restricted = True
                at += 1
        code, layout = uapi.SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, uapi.EnclaveRestrictPermissions
        got = self.change(code, layout, first, count, permissions=perm)
        assert got == (expected, result, at - first)

    @rule(first=pages, count=counts, kind=st.sampled_from([PageType.TCS, TRIM]))
    def modify(self, first: int, count: int, kind: PageType) -> None:
        expected, result, at = 0, 0, first
        sources = (REG,) if kind is PageType.TCS else (REG, PageType.TCS)
        while at < first + count and not expected:
            found = self.book.get(at)
            if found is None:
                expected = errno.EFAULT
            elif found.page_type not in sources:
                expected = errno.EINVAL
            elif found.waits:
                expected, result = errno.EFAULT, 20
            else:
                found.page_type, found.perm, found.modified, found.restricted = kind, 0, True, False
                found.ceiling = 3 if kind is PageType.TCS else found.ceiling
                at += 1
        code = uapi.SGX_IOC_ENCLAVE_MODIFY_TYPES
        got = self.change(code, uapi.EnclaveModifyTypes, first, count, page_type=int(kind))
        assert got == (expected, result, at - first)

    @rule(first=pages, count=counts)
    def remove(self, first: int, count: int) -> None:
        expected, at = 0, first
        while at < first + count and not expected:
            found = self.book.get(at)
            if found is None:
                expected = errno.EFAULT
            elif found.page_type is not TRIM or found.modified:
                expected = errno.EPERM
            else:
                del self.book[at]
                self.inside.discard(at)
                at += 1
        code = uapi.SGX_IOC_ENCLAVE_REMOVE_PAGES
        assert self.change(code, uapi.EnclaveRemovePages, first, count) == (expected, 0, at - first)

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
        self.store(page, bytes(a_tcs()))
        self.modify(page, 1, PageType.TCS)
        self.eaccept(0, page, 0x110)

    @precondition(lambda self: any(page.usable for page in self.book.values()))
    @rule()
    def trim_and_remove_all(self) -> None:
        """Page by page."""
        for page in [at for at, found in self.book.items() if found.usable]:
            self.modify(page, 1, TRIM)
            self.eaccept(0, page, 0x410)
            self.remove(page, 1)

    # Invariants.

    @invariant()
    def the_epcm_is_as_the_book_says(self) -> None:
        if not self.mms:
            return
        for at in range(FIRST, PAGES):
            frame, found = int(self.encl.store.frame_map[at]), self.book.get(at)
            assert bool(frame) == (found is not None)
            if found is None:
                continue
            entry = self.world.cpu.epcm[frame - 1]
            state = EpcmState.VALID
            state |= EpcmState.PENDING if found.pending else EpcmState(0)
            state |= EpcmState.MODIFIED if found.modified else EpcmState(0)
            state |= EpcmState.PR if found.restricted else EpcmState(0)
            assert (entry.pt, entry.perm, entry.state) == (found.page_type, found.perm, state)
            assert entry.enclaveaddress == BASE + at * PAGE_SIZE

    @invariant()
    def the_drivers_books_agree_with_the_epcm(self) -> None:
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
    def every_frame_is_free_or_valid(self) -> None:
        if not self.mms:
            return
        cpu = self.world.cpu
        valid = sum(cpu.epcm.valid(frame) for frame in range(EPC_PAGES))
        assert valid + cpu.epc.free_count == EPC_PAGES

    @invariant()
    def the_secs_counts_its_children(self) -> None:
        if not self.mms:
            return
        for frame, state in self.world.cpu.enclaves.items():
            assert state.children == len(self.world.cpu.epcm.children(frame)) == 2 + len(self.book)

    @invariant()
    def a_new_page_is_zero_and_others_hold_what_was_stored(self) -> None:
        for at in range(FIRST, PAGES if self.mms else FIRST):
            found = self.book.get(at)
            contents = bytes(PAGE_SIZE) if found is None else found.contents
            assert bytes(self.encl.store.page(at * PAGE_SIZE)) == contents

    @invariant()
    def nothing_that_waits_is_usable_and_nothing_goes_beyond_epcm_and_ceiling(self) -> None:
        for prot in (1, 3, 7) if self.mms else ():
            effective = self.encl.effective(FIRST, PAGES, prot).tolist()
            for at, got in enumerate(effective, FIRST):
                found = self.book.get(at)
                allowed = found is not None and not prot & ~found.ceiling
                assert got == (found.usable & prot if allowed and found is not None else 0)

    @invariant()
    def what_the_driver_changed_is_tracked(self) -> None:
        for state in self.world.cpu.enclaves.values() if self.mms else ():
            for at in self.book:
                entry = self.world.cpu.epcm[int(self.encl.store.frame_map[at]) - 1]
                assert is_tracked(self.world.cpu.tracker, state, entry.epoch)

    @invariant()
    def no_page_table_entry_leads_to_a_hole_or_to_a_new_tcs(self) -> None:
        for which, mm in enumerate(self.mms):
            bits = mm.mappings[self.encl].bits
            for at in range(FIRST, PAGES):
                found = self.book.get(at)
                if bits[at] & VmaBits.PRESENT:
                    assert found is not None
                    assert not self.prots[which] & ~found.ceiling

    @invariant()
    def threads_inside_are_those_that_entered(self) -> None:
        for frame in self.world.cpu.enclaves if self.mms else ():
            assert self.world.cpu.threads_inside(frame) == len(self.inside)


TestChanging = pytest.mark.slow(Changing.TestCase)
TestChanging.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
