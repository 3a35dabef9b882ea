"""Any order of calls under a module that says yes or no at random: I0, I1, I4 and I6 hold after each.

Beside the driver runs a ghost that knows nothing of its tables: what was asked, what the module said, and what the
rules of pages then are. It says how each call must end, and judges all mappings by itself.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from swsgx.cpu.enclu.eaccept import eaccept
from swsgx.cpu.enclu.operands import EveryPage, Inside
from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.flags import PageType, secinfo_flags
from swsgx.isa.layout import Layout
from swsgx.isa.structs import Secinfo
from swsgx.linux import uapi
from swsgx.linux.device import EnclaveFile
from swsgx.linux.encl import Encl
from swsgx.linux.fault import augment
from swsgx.linux.mm import AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.linux.security import NO_GRANTS, Grant
from swsgx.lsm.invariant import flags_only_grow, keep_flags
from swsgx.lsm.module import ALLOW, Deny, Obligations, Verdict
from swsgx.lsm.stack import Mode
from tests.make.judged import LOADER, Granting, Judged, judged
from tests.make.running import CODES
from tests.make.world import BASE, REG_RW, SIZE

PAGES = SIZE // PAGE_SIZE
#: Where the enclave has its SECINFOs: always there, and nothing else happens to it.
SPARE = PAGES - 1
R, W, X = 1, 2, 4
ALL_GRANTS = list(Grant)

prots = st.sampled_from([R | W, R | X, R | W, R | X, 0, R, X, R | W | X])
ceilings = st.sampled_from([R, R | W, R | X, R | W | X, R | W | X, R | W | X])
#: Most of what happens happens to few pages, so that things meet.
firsts = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4])
counts = st.sampled_from([1, 1, 1, 2, 3])
#: Mostly yes, or nothing would ever happen.
coins = st.sampled_from([False] * 5 + [True])
grants = st.lists(st.sampled_from(ALL_GRANTS), unique=True).map(lambda some: Grant(sum(some)))
layouts = st.lists(st.tuples(ceilings, grants), min_size=2, max_size=4)
holdings = st.sampled_from([NO_GRANTS, NO_GRANTS, Grant.EXECDIRTY, Grant.AUGEXEC | Grant.EXECDIRTY])


@dataclass
class GhostPage:
    """What must be true of a page."""

    ceiling: int
    owes: Grant = NO_GRANTS
    augmented: bool = False
    ever_w: bool = False
    ever_x: bool = False


@dataclass
class Ghost:
    """What must be true of an enclave."""

    file: EnclaveFile
    created: bool = False
    initialised: bool = False
    holds: Grant = NO_GRANTS
    pages: dict[int, GhostPage] = field(default_factory=dict)

    @property
    def encl(self) -> Encl:
        return self.file.encl


@dataclass
class Process:
    """What must be mapped in an address space: by page index, whose and how."""

    mm: AddressSpace
    maps: dict[int, tuple[Ghost, int]] = field(default_factory=dict)


class Enclaves(RuleBasedStateMachine):
    """Several enclaves at one address, several processes, one module."""

    files = Bundle("files")
    processes = Bundle("processes")

    def __init__(self) -> None:
        super().__init__()
        self.ghosts: list[Ghost] = []
        self.running: list[Process] = []

    @initialize(target=processes, mode=st.sampled_from([Mode.ENFORCING, Mode.ENFORCING, Mode.PERMISSIVE]))
    def boot(self, mode: Mode) -> Process:
        self.module = Granting()
        self.made: Judged = judged(self.module, mode=mode, epc_pages=256)
        self.made.world.driver.trace.sinks.clear()
        self.made.world.driver.reclaimer.backing_pages = 0
        self.flags = keep_flags(self.made.world.driver)
        first = Process(self.made.world.mm)
        self.running.append(first)
        return first

    def teardown(self) -> None:
        if not hasattr(self, "made"):
            return
        for process in self.running:
            process.mm.exit()
        for ghost in self.ghosts:
            ghost.file.close()
        assert self.made.world.cpu.epc.free_count == 256
        self.made.stack.close()
        self.made.world.cpu.close()

    # How a call must end.

    def say(self, hook: str, verdict: Verdict | bool) -> None:
        """What the module says of one hook in the next call: itself, or yes and no."""
        said = verdict if not isinstance(verdict, bool) else Deny("the coin says no") if verdict else ALLOW
        self.module.says = {hook: said}

    def must(self, call: Callable[[], Outcome], *, driver: bool, denied: bool) -> bool:
        """Whether it happened. EACCES, one record and no trace if the stack refuses what the driver would allow."""
        log, before = self.made.log.decisions, self.made.books()
        log.clear()
        outcome = call()
        if driver and denied:
            assert len(log) == 1, log
            assert log[0].permissive == (self.made.stack.mode is Mode.PERMISSIVE)
            if self.made.stack.mode is Mode.ENFORCING:
                assert outcome.errno == errno.EACCES, outcome.reason
                assert self.made.books() == before
                return False
        else:
            assert log == []
        assert outcome.ok == driver, outcome.reason
        return outcome.ok

    # Building.

    @precondition(lambda self: len(self.ghosts) < 4)
    @rule(target=files, no=coins)
    def open_and_create(self, no: bool) -> Ghost:
        return self.open(no)

    def open(self, no: bool) -> Ghost:
        opened = self.made.world.driver.open(subject=LOADER)
        assert isinstance(opened, EnclaveFile)
        ghost = Ghost(opened)
        self.ghosts.append(ghost)
        self.say("create", no)
        self.create(ghost, no)
        return ghost

    @precondition(lambda self: len(self.ghosts) < 4)
    @rule(target=files, layout=layouts, holds=holdings)
    def open_and_build(self, layout: list[tuple[int, Grant]], holds: Grant) -> Ghost:
        """An enclave that runs, which the smaller rules would seldom reach."""
        ghost = self.open(False)
        for index, (ceiling, owes) in enumerate(layout):
            self.add(ghost, index, 1, ceiling, owes & holds, False, True)
        self.init(ghost, holds)
        return ghost

    @rule(ghost=files)
    def create_again(self, ghost: Ghost) -> None:
        self.say("create", False)
        if not ghost.created:
            self.create(ghost, False)

    def create(self, ghost: Ghost, no: bool) -> None:
        world = self.made.world
        ghost.created = self.must(lambda: world.create(ghost.file), driver=True, denied=no)
        if ghost.created:
            assert world.add(ghost.file, SPARE * PAGE_SIZE, bytes(PAGE_SIZE), REG_RW)[0].ok
            self.appear(ghost, SPARE, GhostPage(R | W))

    def appear(self, ghost: Ghost, index: int, page: GhostPage) -> None:
        """A page is there; what maps its address, maps it."""
        mapped = [
            prot for p in self.running for at, (g, prot) in p.maps.items() if at == index and g is ghost
        ]
        page.ever_w |= any(prot & W for prot in mapped)
        page.ever_x |= any(prot & X for prot in mapped)
        ghost.pages[index] = page

    @rule(
        ghost=files,
        first=firsts,
        count=counts,
        ceiling=ceilings,
        owes=grants,
        no=coins,
        measured=st.booleans(),
    )
    def add(
        self, ghost: Ghost, first: int, count: int, ceiling: int, owes: Grant, no: bool, measured: bool
    ) -> None:
        free = not any(index in ghost.pages for index in range(first, first + count))
        if not free or not ghost.created or ghost.initialised:
            return
        waits = self.union(ghost, first, first + count)
        reasons = no + bool(waits & X and owes and not no) + (waits & (W | X) == W | X)
        if reasons > 1 and self.made.stack.mode is Mode.PERMISSIVE:
            return
        self.say("load", Deny("the coin says no") if no else Obligations(owes) if owes else ALLOW)
        flags = secinfo_flags(PageType.REG, ceiling)
        data = bytes(count * PAGE_SIZE)
        if self.must(
            lambda: self.made.world.add(ghost.file, first * PAGE_SIZE, data, flags, measured=measured)[0],
            driver=True,
            denied=reasons > 0,
        ):
            for index in range(first, first + count):
                self.appear(ghost, index, GhostPage(ceiling, NO_GRANTS if no else owes))

    @rule(ghost=files, holds=grants)
    def init(self, ghost: Ghost, holds: Grant) -> None:
        if not ghost.created or ghost.initialised:
            return
        self.module.says, self.module.grants = {}, holds
        owed = any(page.owes & ~holds for page in ghost.pages.values())
        sigstruct = self.made.world.sigstruct(ghost.file)
        if self.must(lambda: self.made.world.init(ghost.file, sigstruct), driver=True, denied=owed):
            ghost.initialised, ghost.holds = True, holds

    # Mapping.

    def union(self, ghost: Ghost, first: int, last: int) -> int:
        """All that mappings of pages allow, together."""
        found = 0
        for process in self.running:
            for index, (owner, prot) in process.maps.items():
                found |= prot if owner is ghost and first <= index < last else 0
        return found

    def lacks(self, ghost: Ghost, indexes: range, prot: int) -> bool:
        """Whether pages, given what they were, may not be mapped so."""
        pages = [ghost.pages.get(index) for index in indexes]
        needs = NO_GRANTS
        for page in pages:
            if prot & X:
                if (page is None and ghost.initialised) or (page is not None and page.augmented):
                    needs |= Grant.AUGEXEC | Grant.EXECDIRTY
                if page is not None:
                    needs |= page.owes | (Grant.EXECDIRTY if page.ever_w else NO_GRANTS)
            if prot & W and page is not None and page.ever_x:
                needs |= Grant.EXECDIRTY
        if prot & W and prot & X:
            needs |= Grant.EXECDIRTY | Grant.MAPWX
        return bool(needs & ~ghost.holds)

    def fits(self, ghost: Ghost, indexes: range, prot: int) -> bool:
        """Whether the ceilings of pages allow it."""
        return not any(prot & ~page.ceiling for i, page in ghost.pages.items() if i in indexes)

    def mapped(self, process: Process, ghost: Ghost, indexes: range, prot: int) -> None:
        for index in indexes:
            process.maps[index] = (ghost, prot)
            page = ghost.pages.get(index)
            if page is not None:
                page.ever_w |= bool(prot & W)
                page.ever_x |= bool(prot & X)

    @rule(process=processes, ghost=files, first=firsts, count=counts, prot=prots, no=coins)
    def mmap_one(self, process: Process, ghost: Ghost, first: int, count: int, prot: int, no: bool) -> None:
        self.mmap(process, ghost, first, count, prot, no)

    @rule(
        one=processes,
        other=processes,
        ghost=files,
        index=firsts,
        prots=st.lists(st.sampled_from([R | W, R | X, R, X]), min_size=2, max_size=4),
        unmap=st.booleans(),
        protect=st.booleans(),
    )
    def mmap_in_turns(
        self,
        one: Process,
        other: Process,
        ghost: Ghost,
        index: int,
        prots: list[int],
        unmap: bool,
        protect: bool,
    ) -> None:
        """One page, mapped by two processes by turns (or by one), since chance would seldom do it."""
        for turn, prot in enumerate(prots):
            process = (one, other)[turn % 2]
            if protect and index in process.maps:
                self.mprotect(process, index, 1, prot, False)
            else:
                self.mmap(process, ghost, index, 1, prot, False)
            if unmap:
                self.munmap(process, index, 1)

    def mmap(self, process: Process, ghost: Ghost, first: int, count: int, prot: int, no: bool) -> None:
        indexes = range(first, first + count)
        fits = self.fits(ghost, indexes, prot)
        denied = no or self.lacks(ghost, indexes, prot)
        self.say("map", no)
        if no and self.made.stack.mode is Mode.PERMISSIVE and self.lacks(ghost, indexes, prot):
            return  # two records; counted elsewhere
        if self.must(
            lambda: self.made.map(ghost.file, first, count, prot, process.mm), driver=fits, denied=denied
        ):
            self.mapped(process, ghost, indexes, prot)
        elif not fits:
            # Quirk of all kernels: what was mapped there is gone.
            for index in indexes:
                process.maps.pop(index, None)

    @rule(process=processes, first=firsts, count=counts, prot=prots, no=coins)
    def mprotect_some(self, process: Process, first: int, count: int, prot: int, no: bool) -> None:
        self.mprotect(process, first, count, prot, no)

    def mprotect(self, process: Process, first: int, count: int, prot: int, no: bool) -> None:
        """One enclave, no gap, and ceilings that fit: how the driver refuses a part is tested elsewhere."""
        indexes = range(first, first + count)
        found = {id(process.maps[i][0]) if i in process.maps else None for i in indexes}
        if None in found or len(found) > 1:
            return
        ghost = process.maps[first][0]
        if not self.fits(ghost, indexes, prot):
            return
        parts = [
            range((max(v.start, BASE + first * PAGE_SIZE) - BASE) // PAGE_SIZE, (v.end - BASE) // PAGE_SIZE)
            for v in process.mm.overlapping(BASE + first * PAGE_SIZE, BASE + (first + count) * PAGE_SIZE)
        ]
        parts = [range(part.start, min(part.stop, indexes.stop)) for part in parts]
        lacking = [self.lacks(ghost, part, prot) for part in parts]
        if self.made.stack.mode is Mode.PERMISSIVE and no + sum(lacking) > (1 if len(parts) == 1 else 0):
            return
        self.say("map", no)
        if self.must(
            lambda: self.made.protect(first, count, prot, process.mm), driver=True, denied=no or any(lacking)
        ):
            self.mapped(process, ghost, indexes, prot)

    @rule(process=processes, first=firsts, count=counts)
    def munmap(self, process: Process, first: int, count: int) -> None:
        assert process.mm.munmap(BASE + first * PAGE_SIZE, count * PAGE_SIZE).ok
        for index in range(first, first + count):
            process.maps.pop(index, None)

    @precondition(lambda self: len(self.running) < 4)
    @rule(target=processes, parent=processes, no=coins)
    def fork(self, parent: Process, no: bool) -> Process:
        self.say("map", no)
        self.made.log.decisions.clear()
        vmas = parent.mm.vmas
        child = Process(parent.mm.fork(subject=LOADER))
        records = 0
        for vma in vmas:
            indexes = range((vma.start - BASE) // PAGE_SIZE, (vma.end - BASE) // PAGE_SIZE)
            [ghost] = [one for one in self.ghosts if one.encl is vma.encl]
            lacks = self.lacks(ghost, indexes, vma.prot)
            permissive = self.made.stack.mode is Mode.PERMISSIVE
            if vma.mapping is None:
                continue
            records += no + lacks if permissive else no or lacks
            if permissive or not (no or lacks):
                self.mapped(child, ghost, indexes, vma.prot)
        assert len(self.made.log.decisions) == records
        self.running.append(child)
        return child

    # Changing.

    @rule(ghost=files, first=firsts, count=counts, no=coins)
    def eaug(self, ghost: Ghost, first: int, count: int, no: bool) -> None:
        if not ghost.initialised or first in ghost.pages:
            return
        last = next((i for i in range(first, first + count) if i in ghost.pages), first + count)
        union = self.union(ghost, first, last)
        needs = Grant.AUGEXEC | Grant.EXECDIRTY | (Grant.MAPWX if union & W else NO_GRANTS)
        lacks = bool(union & X and needs & ~ghost.holds)
        if no and lacks and self.made.stack.mode is Mode.PERMISSIVE:
            return
        self.say("augment", no)
        if self.must(lambda: augment(ghost.encl, first, count, LOADER)[1], driver=True, denied=no or lacks):
            for index in range(first, last):
                self.appear(ghost, index, GhostPage(R | W | X, augmented=True, ever_w=True))
                self.accept(ghost, index, secinfo_flags(PageType.REG, R | W) | 0x8)

    def accept(self, ghost: Ghost, index: int, flags: int) -> None:
        encl = ghost.encl
        encl.store.page(SPARE * PAGE_SIZE)[:64] = bytes(Secinfo.of(flags=flags).buffer)
        assert encl.secs is not None
        thread = Inside(encl.secs, EveryPage(self.made.world.cpu, encl.state))
        where = (Linaddr(BASE + SPARE * PAGE_SIZE), Linaddr(BASE + index * PAGE_SIZE))
        assert eaccept(self.made.world.cpu, thread, *where).ok

    def change(self, ghost: Ghost, layout: type[Layout], index: int, **values: int) -> Outcome:
        arg = self.made.world.memory.put(layout.of(offset=index * PAGE_SIZE, length=PAGE_SIZE, **values))
        return ghost.file.ioctl(self.made.world.task, CODES[layout], arg)

    @rule(ghost=files, index=firsts, no=coins)
    def trim_and_remove(self, ghost: Ghost, index: int, no: bool) -> None:
        if not ghost.initialised or index not in ghost.pages:
            return
        self.say("modify", no)
        trimmed = self.must(
            lambda: self.change(ghost, uapi.EnclaveModifyTypes, index, page_type=int(PageType.TRIM)),
            driver=True,
            denied=no,
        )
        if trimmed:
            self.accept(ghost, index, secinfo_flags(PageType.TRIM) | 0x10)
            self.say("modify", False)
            assert self.must(
                lambda: self.change(ghost, uapi.EnclaveRemovePages, index), driver=True, denied=False
            )
            del ghost.pages[index]

    @rule(ghost=files, index=firsts, keep=prots, no=coins)
    def restrict(self, ghost: Ghost, index: int, keep: int, no: bool) -> None:
        if not ghost.initialised or index not in ghost.pages or (keep & W and not keep & R) or not keep & R:
            return
        self.say("modify", no)
        if self.must(
            lambda: self.change(ghost, uapi.EnclaveRestrictPermissions, index, permissions=keep),
            driver=True,
            denied=no,
        ):
            entry = self.made.world.cpu.epcm[int(ghost.encl.store.frame_map[index]) - 1]
            self.accept(ghost, index, secinfo_flags(PageType.REG, int(entry.perm)) | 0x20)

    # What always holds.

    @invariant()
    def every_mapping_is_what_the_ghost_allowed(self) -> None:
        for process in self.running:
            shown = {
                (address - BASE) // PAGE_SIZE: (vma.encl, vma.prot)
                for vma in process.mm.vmas
                if vma.mapping is not None
                for address in range(vma.start, vma.end, PAGE_SIZE)
            }
            assert shown == {index: (ghost.encl, prot) for index, (ghost, prot) in process.maps.items()}

    @invariant()
    def no_executable_page_breaks_the_promise(self) -> None:
        """I0, by the ghost's own books."""
        if not hasattr(self, "made") or self.made.stack.mode is Mode.PERMISSIVE:
            return
        for process in self.running:
            for index, (ghost, prot) in process.maps.items():
                page = ghost.pages.get(index)
                if page is None or not prot & X:
                    continue
                assert not page.owes & ~ghost.holds
                assert ghost.initialised or not page.owes
                assert not (page.ever_w and page.ever_x) or Grant.EXECDIRTY in ghost.holds
                assert not page.augmented or Grant.AUGEXEC in ghost.holds
                assert not prot & W or Grant.MAPWX in ghost.holds

    @invariant()
    def the_checker_agrees(self) -> None:
        """I0, by the driver's books."""
        if hasattr(self, "made"):
            self.made.check()

    @invariant()
    def flags_grow_until_a_page_is_removed(self) -> None:
        """I6."""
        if hasattr(self, "made"):
            now = keep_flags(self.made.world.driver)
            assert flags_only_grow(self.flags, now) == []
            self.flags = now

    @invariant()
    def flags_are_what_the_ghost_has_seen(self) -> None:
        for ghost in self.ghosts:
            for index, page in ghost.pages.items():
                flags = self.made.flags(ghost.file, index)
                shown = (bool(flags & 1), bool(flags & 2), bool(flags & 8))
                assert shown == (page.ever_w, page.ever_x, page.augmented), index


TestEnclaves: type = pytest.mark.slow(Enclaves.TestCase)
Enclaves.TestCase.settings = settings(deadline=None, stateful_step_count=50)
