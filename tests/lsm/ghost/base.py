"""The world of the ghost: what is called, what must be asked in the course of it, and what must hold behind it."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.cpuid import CpuModel
from swsgx.isa.flags import PageType
from swsgx.linux.mm import AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.linux.provenance import Subject
from swsgx.linux.security import PageFlag
from swsgx.linux.task import Task
from swsgx.lsm.stack import Stack
from swsgx.native.abi import VmaBits
from tests.lsm.ghost.book import (
    PAGES,
    SPARE,
    Area,
    Enclave,
    Named,
    Page,
    Process,
    W,
    X,
)
from tests.lsm.ghost.judges import Judge
from tests.lsm.ghost.questions import Question, Witness, named, together
from tests.lsm.ghost.sources import Sources
from tests.make.judged import Log
from tests.make.world import BASE, REG_RW, World, make_world

__all__ = ["FRAMES", "LABELS", "Base", "Found", "must"]

T = TypeVar("T")
#: EPC pages: SECS, VA and SPARE page of three enclaves, and not enough for all the others.
FRAMES = 22
LABELS = ("builder", "app", "other")
_NO_PRESENT = np.uint8(~VmaBits.PRESENT & 0xFF)


class Found(AssertionError):
    """Something is not as the ghost says."""


def must(holds: bool, *what: object) -> None:
    """What must be true."""
    if not holds:
        raise Found(" ".join(map(str, what)))


class Base:
    """Processes, enclaves, and the log of verdicts.

    Args:
        seed: of the enclaves' and the policy's randomness.
        judge: makes the ghost's idea of the modules.
    """

    def __init__(self, seed: int, judge: Callable[[random.Random], Judge]) -> None:
        self.world: World = make_world(
            model=CpuModel.with_sgx2(epc_size=FRAMES * PAGE_SIZE), epc_pages=FRAMES, seed=seed
        )
        self.world.driver.trace.sinks.clear()
        self.memory = self.world.memory = Sources()
        self.judge = judge(random.Random(seed))
        self.witness, self.log = Witness(), Log()
        self.stack = Stack([self.witness, *self.judge.modules], audit=self.log, timeout=20)
        self.world.driver.security = self.stack
        self.pids = 0
        self.generation = 0
        self.enclaves: list[Enclave] = self.judge.enclaves
        self.processes: list[Process] = []
        self.asked: list[Question] = []
        self.committed: list[Question] = []
        self.denials = 0
        self.commit_fails = ""
        self.start(LABELS[0])

    def close(self) -> None:
        """All processes end, and nothing of them stays."""
        for process in list(self.processes):
            self.end_process(process)
        free, leaked = self.world.cpu.epc.free_count, self.world.driver.leaked
        self.stack.close()
        self.world.cpu.close()
        must(free == FRAMES and not leaked, "EPC pages are gone:", FRAMES - free)

    # Processes.

    def subject(self, label: str, pid: int | None = None) -> Subject:
        if pid is None:
            self.pids += 1
            pid = self.pids
        return Subject(pid, 1000, f"/bin/{label}", label)

    def start(self, label: str, mm: AddressSpace | None = None) -> Process:
        subject = self.subject(label)
        task = Task(self.memory, mm or AddressSpace(), subject=subject, provenance=self.memory)
        process = Process(task, subject)
        self.processes.append(process)
        return process

    def acting(self, process: Process) -> None:
        """The next call is made by this process."""
        self.world.task = process.task

    def end_process(self, process: Process) -> None:
        gone = process.areas
        process.areas = []
        process.mm.exit()
        self.processes.remove(process)
        files, process.files = process.files, []
        for encl in files:
            encl.file.close()
        self.released([*files, *(area.encl for area in gone)])

    def released(self, enclaves: list[Enclave]) -> None:
        """Descriptors or mappings of enclaves are gone; they end with the last."""
        for encl in set(enclaves):
            held = any(
                encl in process.files or any(area.encl is encl for area in process.areas)
                for process in self.processes
            )
            must(encl.file.released is not held, "enclave", encl.number, "held:", held)
            if not held and encl in self.enclaves:
                self.enclaves.remove(encl)

    # What must be asked.

    def question(self, hook: str, process: Process | Subject | None, encl: Enclave | None) -> Question:
        subject = process.subject if isinstance(process, Process) else process
        return Question(hook, "", named(subject), encl.number if encl is not None else 0)

    def pages_question(
        self, hook: str, who: Process | Subject | None, encl: Enclave, first: int, last: int
    ) -> Question:
        """Of a range of page indexes."""
        base = 0 if encl.created or hook != "map" else BASE
        return self.question(hook, who, encl)._replace(
            offset=base + first * PAGE_SIZE, length=(last - first) * PAGE_SIZE
        )

    def decide(self, question: Question, lacks: int = 0) -> bool:
        """The first phase: whether it must be allowed. ``lacks``: grants that the rules of pages miss."""
        self.asked.append(question)
        allowed = not self.judge.denies(question) and not lacks
        self.denials += not allowed
        return allowed

    def commit(self, question: Question) -> bool:
        """The second phase."""
        self.committed.append(question)
        failed = question.hook == self.commit_fails
        self.denials += failed
        return not failed

    def ask(self, question: Question, lacks: int = 0) -> bool:
        return self.decide(question, lacks) and self.commit(question)

    def first_use(self, encl: Enclave, subject: Subject) -> bool:
        """The file is used; somebody new is asked about."""
        if subject in encl.users:
            return True
        previous: Named | None = named(encl.users[-1]) if encl.users else None
        if not self.ask(self.question("receive", subject, encl)._replace(what=(previous,))):
            return False
        encl.users.append(subject)
        return True

    # Calling.

    def call(self, function: Callable[[], T], *, trace: bool = True) -> T:
        """Make a call: just what must be asked is asked, each refusal is recorded once, and leaves no trace.

        Args:
            trace: False: a refusal of a part lets other parts happen.
        """
        denials, before = self.denials, None
        if denials and trace:
            before = self.books()
        self.witness.heard, self.witness.committed = [], []
        self.witness.fails = self.commit_fails
        self.log.decisions.clear()
        outcome = function()
        expected, heard = together(self.asked), together(self.witness.heard)
        must(expected == heard, "asked:", heard, "must be:", expected)
        expected, heard = together(self.committed), together(self.witness.committed)
        must(expected == heard, "committed:", heard, "must be:", expected)
        records = self.log.decisions
        must(len(records) == denials, "I4:", len(records), "records of", denials, "refusals")
        for record in records:
            must(record.denied and not record.permissive, "I4: a record of something else", record)
            hooks = {(one.hook, one.call) for one in self.asked}
            must((record.hook, record.call) in hooks, "I4: a record of another hook", record.hook)
        if before is not None:
            must(self.books() == before, "I1: a refusal left a trace")
        self.asked, self.committed, self.denials = [], [], 0
        return outcome

    def outcome(self, function: Callable[[], Outcome], *, good: bool = True, trace: bool = True) -> bool:
        """A call that the driver itself allows, if ``good``: EACCES if it was denied, else success."""
        denied = bool(self.denials)
        found = self.call(function, trace=trace)
        if denied:
            must(found.errno == errno.EACCES, "refused, and it gave", found, found.reason)
        else:
            must(found.ok == good, "it gave", found, found.reason)
        return found.ok

    def books(self) -> list[object]:
        """All that a refusal must leave alone. Which pages are in the EPC is not among it: any call may evict some."""
        found: list[object] = []
        for encl in sorted(self.world.driver.enclaves, key=lambda one: one.number):
            found += [encl.number, encl.created, encl.initialised, encl.page_count, encl.augmented]
            found += [encl.page_type.tobytes(), encl.max_prot.tobytes(), len(encl.va_pages)]
            if encl.created:
                found.append(encl.state.measurement.digest())
            if encl.security is not None:
                pages = encl.security.pages
                arrays = (pages.flags, pages.obligations, pages.origins, pages.births)
                found += [array.tobytes() for array in arrays]
                found += [encl.security.grants, encl.security.label, encl.security.identity]
        for process in self.processes:
            for vma in process.mm.vmas:
                found.append((vma.start, vma.end, vma.prot, vma.encl.number))
            for mapping in process.mm.mappings.values():
                found.append((mapping.bits & _NO_PRESENT).tobytes())
        return found

    # Pages.

    def appear(self, encl: Enclave, index: int, page: Page) -> None:
        """A page is there; what maps its address, maps it."""
        for process in self.processes:
            area = process.at(index)
            if area is not None and area.encl is encl and area.alive:
                page.ever_w |= bool(area.prot & W)
                page.ever_x |= bool(area.prot & X)
        encl.pages[index] = page

    def mapped(self, process: Process, area: Area, first: int, last: int) -> None:
        """A mapping was allowed."""
        for page in area.encl.at(first, last):
            if page is not None:
                page.ever_w |= bool(area.prot & W)
                page.ever_x |= bool(area.prot & X)
        area.subject, area.judged, area.generation = process.subject, area.prot, self.generation
        area.initialised = area.encl.initialised

    def stale(self, area: Area) -> bool:
        """Whether it was judged by what does not hold any more: it must be judged again when it is touched."""
        return area.generation != self.generation or area.initialised != area.encl.initialised

    def with_room(self, count: int) -> None:
        """EPC pages are free, so that no call stops half way for want of them."""
        for _ in range(20):
            if self.world.cpu.epc.free_count >= count:
                return
            self.world.driver.reclaimer.reclaim(4)
        raise RuntimeError("no room in the EPC")

    def spare(self, encl: Enclave) -> None:
        """The page that each enclave has for itself; nobody minds."""
        self.with_room(4)
        outcome = self.world.add(encl.file, SPARE * PAGE_SIZE, bytes(PAGE_SIZE), REG_RW)[0]
        if not outcome.ok:
            raise RuntimeError(str(outcome.reason))

    # What always holds.

    def check(self) -> None:
        """After each step."""
        for process in self.processes:
            self._check_mappings(process)
            for area in process.areas:
                self._check_promise(process, area)
        for encl in self.enclaves:
            self._check_pages(encl)
        valid = int(np.count_nonzero(self.world.cpu.epcm.columns["state"][:FRAMES]))
        free = self.world.cpu.epc.free_count
        must(valid + free == FRAMES, "I1: EPC pages are lost:", valid, "used,", free, "free")

    def _check_mappings(self, process: Process) -> None:
        """I8 and more: each mapping is what the ghost allowed, no wider and no narrower, and native code sees that."""
        shown = [
            (
                (vma.start - BASE) // PAGE_SIZE,
                (vma.end - BASE) // PAGE_SIZE,
                vma.prot,
                vma.encl.number,
                vma.mapping is not None,
            )
            for vma in process.mm.vmas
        ]
        areas = process.over(-1, 1 << 40)
        allowed = [(a.start, a.end, a.prot, a.encl.number, a.alive) for a in areas]
        must(shown == allowed, "mappings of", process.subject.pid, "are", shown, "must be", allowed)
        for encl in self.enclaves:
            mapping = process.mm.mappings.get(encl.file.encl)
            if mapping is None or not encl.created:
                continue
            bits = np.zeros(PAGES, np.uint8)
            for area in areas:
                if area.encl is encl and area.alive:
                    bits[area.start : area.end] = int(VmaBits.MAPPED) | area.prot
            must(bool((mapping.bits & _NO_PRESENT == bits).all()), "native code sees other protections")

    def _check_promise(self, process: Process, area: Area) -> None:
        """I0 of one mapping, page by page: the mapping as the driver has it, the verdicts as the ghost logged them."""
        if not area.alive or not area.prot & X:
            return
        encl, known = area.encl, area.encl.file.encl
        must(not area.prot & ~area.judged, "I0: a mapping that nobody allowed")
        must(
            self.stale(area) or area.subject == process.subject, "I0: allowed for somebody else", area.subject
        )
        for index in range(area.start, min(area.end, PAGES)):
            if not known.created or not known.page_type[index]:
                continue
            page = encl.pages.get(index)
            must(page is not None, "I0: an executable page that nobody let in:", index)
            if page is None:
                continue
            must(not page.owes & ~encl.grants, "I0: open obligations", page.owes, "at", index)
            must(encl.initialised or not page.owes, "I0: obligations before INIT at", index)
            must(not (page.ever_w and page.ever_x) or bool(encl.grants & 1), "I0: W and X at", index)
            must(not page.augmented or bool(encl.grants & 4), "I0: EAUG and X at", index)
            must(not area.prot & W or bool(encl.grants & 2), "I0: WX at", index)

    def _check_pages(self, encl: Enclave) -> None:
        """Pages are those that were let in, with all that they ever were (I6), and no bytes but theirs."""
        known = encl.file.encl
        must(known.created == encl.created and known.initialised == encl.initialised, "the enclave's state")
        if not encl.created or known.security is None:
            return
        pages = {index: page for index, page in encl.pages.items() if index != SPARE}
        types = {i: PageType(int(t)).name for i, t in enumerate(known.page_type[:SPARE]) if t}
        must(types == {i: page.kind for i, page in sorted(pages.items())}, "pages:", types)
        must(int(known.security.grants) == encl.grants, "grants:", known.security.grants, encl.grants)
        must(known.security.label == encl.label, "label:", known.security.label)
        must((known.security.identity is not None) == encl.initialised, "identity without INIT, or none")
        sticky = known.security.pages
        for index, page in pages.items():
            flags = (
                page.ever_w * PageFlag.EVER_W
                | page.ever_x * PageFlag.EVER_X
                | page.measured * PageFlag.MEASURED
                | page.augmented * PageFlag.AUGMENTED
                | PageFlag.ADMITTED
            )
            found = PageFlag(int(sticky.flags[index]))
            must(found == flags, "I6: flags of", index, "are", repr(found), "must be", repr(flags))
            must(int(sticky.obligations[index]) == page.owes, "I6: obligations of", index)
            at = int(sticky.origins[index])
            origin = sticky.extents[at - 1] if at else None
            must(origin == page.origin, "origin of", index, "is", origin)
            must(int(known.max_prot[index]) == page.ceiling, "ceiling of", index)
        for index in range(SPARE):
            if index not in pages:
                # What maps a hole may be noted already; a page that appears there starts anew.
                kept = int(sticky.flags[index]) & ~int(PageFlag.EVER_W | PageFlag.EVER_X)
                must(not kept and not sticky.obligations[index], "a hole that remembers a page:", index)
                must(not any(known.store.page(index * PAGE_SIZE)[:8]), "I1: bytes in a hole", index)
