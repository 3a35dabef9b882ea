"""Rules about mappings: mmap, mprotect, mremap, munmap, fork, exec, and the page fault that judges them again."""

from __future__ import annotations

import errno
import random

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import PageFaultCode
from swsgx.linux.fault import FaultAction, resolve
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED
from swsgx.linux.provenance import Subject
from tests.lsm.ghost.base import LABELS, must
from tests.lsm.ghost.book import (
    EXECDIRTY,
    MAPWX,
    PAGES,
    Area,
    Enclave,
    Page,
    Process,
    R,
    W,
    X,
    union,
    wanted,
    wanted_by_eaug,
)
from tests.lsm.ghost.building import CEILINGS, Building
from tests.lsm.ghost.questions import Question
from tests.make.world import BASE

__all__ = ["Mapping", "new_page"]

_PROTS = (R | W, R | X, R | W, R | X, R, X, 0, R | W | X)
_MAYMOVE_FIXED = 3


class Mapping(Building):
    """All that gives, takes, copies or changes mappings."""

    def build(self, dice: random.Random) -> None:
        """An enclave as programs build them, which chance would seldom make: several calls in one step."""
        process = dice.choice(self.processes)
        encl = self.do_open(process) if len(self.enclaves) < 3 else None
        if encl is None or not self.do_create(process, encl, debug=dice.random() < 0.9):
            return
        if dice.random() < 0.25:  # mappings wait for the pages
            other = dice.choice(self.processes)
            if encl not in other.files:
                encl.file.dup()
                other.files.append(encl)
            self.do_mmap(process, encl, 0, 2, R | X)
            if other is not process:
                self.do_mmap(other, encl, 0, 1, R | W)
        at = 0
        for _ in range(dice.randrange(1, 4)):
            count = dice.choice([1, 1, 2])
            ceiling = dice.choice(CEILINGS)
            self.do_add(process, encl, at, count, dice.randrange(4), ceiling, dice.random() < 0.8)
            at += count
        if dice.random() < 0.3:
            first = dice.randrange(at)
            self.do_mmap(process, encl, first, first + 1, self.some_prot(dice, encl, first, first + 1))
        self.do_init(process, encl, dice)
        if process.areas and dice.random() < 0.3:
            self.do_fault(process, process.areas[-1].start, write=False)

    @staticmethod
    def range(dice: random.Random) -> tuple[int, int]:
        """Few pages, so that things meet."""
        if dice.random() < 0.04:
            return dice.choice([(PAGES - 2, PAGES + 1), (PAGES, PAGES + 2)])
        first = dice.choice([0, 0, 0, 1, 1, 2, 3, 4])
        return first, first + dice.choice([1, 1, 1, 2, 3])

    def map_question(
        self, call: str, who: Process | Subject | None, encl: Enclave, first: int, last: int, prot: int
    ) -> tuple[Question, int]:
        """The question, and the grants that the enclave lacks for it."""
        asked = self.pages_question("map", who, encl, first, last)._replace(call=call, what=(prot,))
        return asked, wanted(encl, first, last, prot) & ~encl.grants

    def mmap(self, dice: random.Random) -> None:
        got = self.with_file(dice, lambda encl: encl.initialised or dice.random() < 0.3)
        if got is not None:
            first, last = self.range(dice)
            self.do_mmap(*got, first, last, self.some_prot(dice, got[1], first, last))

    @staticmethod
    def some_prot(dice: random.Random, encl: Enclave, first: int, last: int) -> int:
        """Mostly one that the ceilings allow: what the driver refuses itself, nobody is asked."""
        prot = dice.choice(_PROTS)
        if dice.random() < 0.8:
            for page in encl.at(first, last):
                prot &= page.ceiling if page is not None else prot
        return prot

    def do_mmap(self, process: Process, encl: Enclave, first: int, last: int, prot: int) -> bool:
        fits = encl.fits(first, last, prot)
        used = self.first_use(encl, process.subject)
        if used and fits:
            self.ask(*self.map_question("mmap", process, encl, first, last, prot))
        refused = bool(self.denials)
        done = self.outcome(
            lambda: process.mm.mmap(
                BASE + first * PAGE_SIZE,
                (last - first) * PAGE_SIZE,
                prot,
                MAP_SHARED | MAP_FIXED,
                encl.file,
                subject=process.subject,
            ),
            good=fits,
        )
        if not refused:
            # Quirk of all kernels: what was mapped there is gone, even if the driver refuses.
            gone = process.clear(first, last)
            if done:
                area = Area(first, last, prot, encl)
                process.areas.append(area)
                self.mapped(process, area, first, last)
            self.released([area.encl for area in gone])
        return done

    def in_turns(self, dice: random.Random) -> None:
        """One page, mapped by turns by two processes, which chance would seldom do."""
        # Mostly where rules matter: everything is allowed to an enclave that has all grants.
        weak = self.with_file(dice, lambda encl: encl.initialised and ~encl.grants & (EXECDIRTY | MAPWX))
        got = weak or self.with_file(dice, lambda encl: encl.initialised)
        if got is None:
            return
        others = [process for process in self.processes if got[1] in process.files]
        both = [index for index, page in got[1].pages.items() if page.ceiling == R | W | X]
        loaded = [index for index in both if not got[1].pages[index].augmented]
        first = dice.choice(loaded or both or [0, 1, 2])
        for _ in range(dice.randrange(2, 6)):
            process = dice.choice(others)
            if process.at(first) is not None and dice.random() < 0.5:
                self.do_munmap(process, first, first + 1)
            if got[1].file.released:
                return
            self.do_mmap(
                process, got[1], first, first + 1, dice.choice([R | W, R | X, R | W, R | X, R | W | X])
            )

    def mprotect(self, dice: random.Random) -> None:
        mapped = [process for process in self.processes if process.areas]
        if not mapped:
            return
        process, (first, last) = dice.choice(mapped), self.range(dice)
        if dice.random() < 0.7:
            area = dice.choice(process.areas)
            first, last = area.start, area.end if dice.random() < 0.5 else area.start + 1
        found = process.at(first)
        prot = self.some_prot(dice, found.encl, first, last) if found is not None else dice.choice(_PROTS)
        self.do_mprotect(process, first, last, prot)

    def do_mprotect(self, process: Process, first: int, last: int, prot: int) -> None:
        parts, number = self._parts(process, first, last, prot)
        decided: list[Question] = []
        for area, low, high in parts:
            if not self.first_use(area.encl, process.subject):
                break
            asked, lacks = self.map_question("mprotect", process, area.encl, low, high, prot)
            if not self.decide(asked, lacks):
                break
            decided.append(asked)
        else:
            for asked in decided:
                if not self.commit(asked):
                    break
        denied = bool(self.denials)
        found = self.call(
            lambda: process.mm.mprotect(
                BASE + first * PAGE_SIZE, (last - first) * PAGE_SIZE, prot, subject=process.subject
            )
        )
        must(found.errno == (errno.EACCES if denied else number), "mprotect gave", found, found.reason)
        if denied:
            return
        for area, low, high in parts:
            if area.prot == prot:
                continue
            process.split(low)
            process.split(high)
            changed = process.at(low)
            if changed is not None:
                changed.prot = prot
                self.mapped(process, changed, low, high)

    def _parts(
        self, process: Process, first: int, last: int, prot: int
    ) -> tuple[list[tuple[Area, int, int]], int]:
        """What is to be changed, up to where the driver itself stops, and how that ends."""
        parts: list[tuple[Area, int, int]] = []
        at = first
        while at < last:
            area = process.at(at)
            if area is None:
                return parts, errno.ENOMEM
            stop = min(area.end, last)
            if not area.encl.fits(at, stop, prot):
                return parts, errno.EACCES
            parts.append((area, at, stop))
            at = stop
        return parts, 0

    def mremap(self, dice: random.Random) -> None:
        process = dice.choice(self.processes)
        if not process.areas:
            return
        executable = [area for area in process.areas if area.prot & X]
        area = dice.choice(executable or process.areas)
        low = dice.randrange(area.start, area.end)
        high = dice.randrange(low + 1, area.end + 1)
        to = dice.choice([0, 1, 2, 3, 4, 5, 6, PAGES, PAGES, PAGES + 2])
        end = to + high - low
        if low < end and to < high:
            return  # EINVAL, and nobody is asked
        if self.first_use(area.encl, process.subject):
            self.ask(*self.map_question("mremap", process, area.encl, to, end, area.prot))
        moved = self.outcome(
            lambda: process.mm.mremap(
                BASE + low * PAGE_SIZE,
                (high - low) * PAGE_SIZE,
                (high - low) * PAGE_SIZE,
                _MAYMOVE_FIXED,
                BASE + to * PAGE_SIZE,
                subject=process.subject,
            )
        )
        if moved:
            gone = process.clear(to, end)
            copy = Area(to, end, area.prot, area.encl, alive=area.alive)
            process.clear(low, high)
            process.areas.append(copy)
            self.mapped(process, copy, to, end)
            self.released([one.encl for one in gone])

    def munmap(self, dice: random.Random) -> None:
        process = dice.choice(self.processes)
        if process.areas:
            self.do_munmap(process, *self.range(dice))

    def do_munmap(self, process: Process, first: int, last: int) -> None:
        self.outcome(lambda: process.mm.munmap(BASE + first * PAGE_SIZE, (last - first) * PAGE_SIZE))
        self.released([area.encl for area in process.clear(first, last)])

    # Processes.

    def fork(self, dice: random.Random) -> None:
        parent = dice.choice(self.processes)
        if len(self.processes) >= 3:
            return
        subject = self.subject(parent.subject.label)
        copies: list[tuple[Area, bool]] = []
        for area in parent.over(-1, 1 << 40):
            allowed = area.alive and self.first_use(area.encl, subject)
            if allowed:
                asked, lacks = self.map_question("fork", subject, area.encl, area.start, area.end, area.prot)
                allowed = self.ask(asked, lacks)
            copies.append((area, allowed))
        mm = self.call(lambda: parent.mm.fork(subject=subject), trace=False)
        child = self.start(parent.subject.label, mm)
        child.subject = child.task.subject = subject
        for encl in parent.files:
            encl.file.dup()
            child.files.append(encl)
        for area, allowed in copies:
            copy = Area(area.start, area.end, area.prot, area.encl, alive=allowed)
            child.areas.append(copy)
            if allowed:
                self.mapped(child, copy, copy.start, copy.end)

    def exec(self, dice: random.Random) -> None:
        """Another program, with the descriptors of the old one, and none of its mappings."""
        process = dice.choice(self.processes)
        self.processes.remove(process)
        new = self.start(dice.choice(LABELS))
        new.subject = new.task.subject = self.subject(new.subject.label, process.subject.pid)
        new.files = process.files
        process.mm.exit()
        self.released([area.encl for area in process.areas])

    # Faults.

    def fault(self, dice: random.Random) -> None:
        process = dice.choice(self.processes)
        if not process.areas:
            return
        stale = [area for area in process.areas if self.stale(area)]
        area = dice.choice(stale or process.areas)
        index = dice.randrange(area.start, area.end)
        self.do_fault(process, index, write=bool(area.prot & W) and dice.random() < 0.5)
        page = area.encl.pages.get(index)
        if page is not None and not page.settled and dice.random() < 0.8:
            self.accept_new(area.encl, index)

    def accept_new(self, encl: Enclave, index: int) -> None:
        raise NotImplementedError

    def do_fault(self, process: Process, index: int, *, write: bool) -> None:
        area = process.at(index)
        expected = FaultAction.SEGV_MAPERR
        if area is not None:
            expected = FaultAction.SEGV_ACCERR
            if area.prot & W if write else area.prot:
                expected = self._touched(area, index)
        code = PageFaultCode.W if write else PageFaultCode(0)
        found = self.call(lambda: resolve(process.mm, BASE + index * PAGE_SIZE, code), trace=False)
        must(found.action is expected, "the fault gave", found, "must be", expected)

    def _touched(self, area: Area, index: int) -> FaultAction:
        """What must come of a fault that the mapping allows: it is judged again, then the page is wanted."""
        if not area.alive:
            return FaultAction.SIGBUS
        encl = area.encl
        if self.stale(area):
            asked, lacks = self.map_question("fault", area.subject, encl, area.start, area.end, area.prot)
            if not self.ask(asked, lacks):
                area.prot &= ~X
            area.generation, area.initialised = self.generation, encl.initialised
        page = encl.at(index, index + 1)[0]
        if page is not None:
            return FaultAction.SIGBUS if area.prot & ~page.ceiling else FaultAction.RETRY
        if not encl.initialised or index >= PAGES:
            return FaultAction.SIGBUS
        if not self._augment_asked(encl, area.subject, index, 1, explicit=False):
            return FaultAction.SIGBUS
        self.appear(encl, index, new_page())
        return FaultAction.RETRY

    def _augment_asked(
        self, encl: Enclave, who: Subject | None, first: int, count: int, *, explicit: bool
    ) -> bool:
        mapped = union(self.processes, encl, first, first + count)
        asked = self.pages_question("augment", who, encl, first, first + count)
        return self.ask(asked._replace(what=(explicit, mapped)), wanted_by_eaug(mapped) & ~encl.grants)


def new_page() -> Page:
    """What EAUG adds: dirty from birth."""
    return Page("REG", R | W | X, augmented=True, ever_w=True, settled=False)
