"""Rules about files and enclaves that are being built."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Attributes, PageType, secinfo_flags
from swsgx.linux.device import EnclaveFile
from swsgx.linux.outcome import Outcome
from swsgx.linux.provenance import OriginClass
from swsgx.linux.security import Plain
from tests.lsm.ghost import sources
from tests.lsm.ghost.base import LABELS, Base, must
from tests.lsm.ghost.book import PAGES, SPARE, Enclave, Page, Process, R, W, X, union, wanted_by_eadd
from tests.lsm.ghost.questions import source_name
from tests.make.world import a_secs, a_tcs

__all__ = ["CEILINGS", "Building"]

CEILINGS = (R, R | W, R | X, R | W | X, R | W | X, R | W | X, X)


class Building(Base):
    """open, ECREATE, EADD, EINIT; sources; who has which descriptor."""

    def open(self, dice: random.Random) -> None:
        process = dice.choice(self.processes)
        if len(self.enclaves) < 3:
            self.do_open(process)

    def do_open(self, process: Process) -> Enclave | None:
        allowed = self.ask(self.question("open", process, None))
        opened = self.call(lambda: self.world.driver.open(subject=process.subject))
        must(isinstance(opened, EnclaveFile) == allowed, "open gave", opened)
        if not isinstance(opened, EnclaveFile):
            must(isinstance(opened, Outcome) and opened.errno == errno.EACCES, "open gave", opened)
            return None
        encl = Enclave(opened, users=[process.subject])
        process.files.append(encl)
        self.enclaves.append(encl)
        return encl

    def create(self, dice: random.Random) -> None:
        got = self.with_file(dice, lambda encl: not encl.created)
        if got is not None:
            self.do_create(*got, debug=dice.random() < 0.8)

    def do_create(self, process: Process, encl: Enclave, *, debug: bool = True) -> bool:
        self.with_room(4)
        self.acting(process)
        attributes = Attributes.MODE64BIT | (Attributes.DEBUG if debug else 0)
        asked = self.question("create", process, encl)._replace(length=PAGES * PAGE_SIZE, what=(debug,))
        if self.first_use(encl, process.subject):
            self.ask(asked)
        if not self.outcome(lambda: self.world.create(encl.file, a_secs(attributes=attributes))):
            return False
        encl.created, encl.debug = True, debug
        self.witness.fails = ""
        self.unwatched_spare(process, encl)
        return True

    def unwatched_spare(self, process: Process, encl: Enclave) -> None:
        """The page for SECINFOs is added by somebody whom no policy refuses: nobody is asked."""
        hooks, self.world.driver.security = self.world.driver.security, Plain()
        try:
            self.acting(process)
            self.spare(encl)
        finally:
            self.world.driver.security = hooks
        encl.pages[SPARE] = Page("REG", R | W)

    def add(self, dice: random.Random) -> None:
        got = self.with_file(dice, lambda encl: encl.created and not encl.initialised)
        if got is not None:
            self.do_add(
                *got,
                first=dice.choice([0, 0, 1, 1, 2, 3, 4, 5]),
                count=dice.choice([1, 1, 2, 3, 4]),
                source=dice.choice([0, 0, 1, 2, 3, 4, 5, 5, 6]),
                ceiling=dice.choice(CEILINGS) if dice.random() < 0.85 else None,
                measured=dice.random() < 0.7,
            )

    def do_add(
        self,
        process: Process,
        encl: Enclave,
        first: int,
        count: int,
        source: int,
        ceiling: int | None,
        measured: bool,
    ) -> None:
        """``ceiling``: None is a TCS, whose pages are added one at a time."""
        count = min(count if ceiling is not None else 1, sources.SOURCES - source)
        kind, most = ("REG", ceiling) if ceiling is not None else ("TCS", R | W)
        if ceiling is None:
            self.memory.pages[sources.FIRST + source * PAGE_SIZE][:] = bytes(a_tcs())
        self.with_room(count + 4)
        self.acting(process)
        added: list[Page] = []
        trouble = 0
        if self.first_use(encl, process.subject):
            added, trouble = self._let_in(process, encl, first, count, source, kind, most, measured)
        flags = secinfo_flags(PageType[kind], ceiling or 0)
        src, partial = sources.FIRST + source * PAGE_SIZE, bool(added)

        def call() -> Outcome:
            outcome, argument = self.world.add(
                encl.file, first * PAGE_SIZE, b"", flags, measured=measured, src=src, length=count * PAGE_SIZE
            )
            if encl.file.encl.created and process.subject in encl.users:
                done = getattr(argument, "count", 0)
                must(done == len(added) * PAGE_SIZE, done, "bytes added of", added, outcome, outcome.reason)
            return outcome

        denied = bool(self.denials)
        before = encl.file.encl.state.measurement.digest()
        found = self.call(call, trace=not partial)
        must(found.errno == (errno.EACCES if denied else trouble), "ADD_PAGES gave", found, found.reason)
        grown = before != encl.file.encl.state.measurement.digest()
        must(grown == bool(added), "MRENCLAVE and pages disagree")
        for index, page in enumerate(added):
            self.appear(encl, first + index, page)

    def _let_in(
        self,
        process: Process,
        encl: Enclave,
        first: int,
        count: int,
        source: int,
        kind: str,
        most: int,
        measured: bool,
    ) -> tuple[list[Page], int]:
        """Pages that must be added, and the driver's own reason to stop behind them."""
        added: list[Page] = []
        while len(added) < count:
            index, at = first + len(added), source + len(added)
            if index in encl.pages:
                return added, encl.file.encl.profile.add_pages.duplicate
            if at >= sources.EXECUTABLE:  # upstream, pages of data, too
                return added, errno.EACCES
            origin, last = self.memory.origins[at], at
            while (
                last < min(sources.EXECUTABLE, source + count)
                and self.memory.origins[last] == origin
                and first + last - source not in encl.pages
            ):
                last += 1
            what = (kind, most, measured, source_name(origin))
            asked = self.pages_question("load", process, encl, index, index + last - at)._replace(what=what)
            mapped = union(self.processes, encl, index, index + last - at)
            owes = self.judge.owes(asked)
            if not self.ask(asked, (wanted_by_eadd(mapped) | (owes if mapped & X else 0)) & ~encl.grants):
                return added, errno.EACCES
            added += [Page(kind, most, owes, measured, origin=origin) for _ in range(last - at)]
        return added, 0

    def init(self, dice: random.Random) -> None:
        got = self.with_file(dice, lambda encl: encl.created and not encl.initialised)
        if got is not None and (len(got[1].pages) > 1 or dice.random() < 0.2):
            self.do_init(*got, dice)

    def do_init(self, process: Process, encl: Enclave, dice: random.Random) -> None:
        self.acting(process)
        self.with_room(4)
        self.memory.sigstruct = dice.choice([sources.SIGNED] * 4 + [sources.GOOD, sources.MODIFIED, None])
        sigstruct = self.world.sigstruct(encl.file) if encl.file.encl.secs is not None else None
        if sigstruct is None:
            return
        broken = dice.random() < 0.05
        if broken:
            sigstruct.buffer[960] ^= 1
        owed = 0
        for page in encl.pages.values():
            owed |= page.owes
        asked = self.question("init", process, encl)._replace(what=(source_name(self.memory.sigstruct), owed))
        grants, label = self.judge.given(encl, asked)
        if self.first_use(encl, process.subject) and not broken:
            self.ask(asked, owed & ~grants)
        denied = bool(self.denials)
        found = self.call(lambda: self.world.init(encl.file, sigstruct))
        expected = errno.EACCES if denied else errno.EPERM if broken else 0
        must(found.errno == expected, "INIT gave", found, found.reason)
        if found.ok:
            encl.initialised, encl.grants, encl.label = True, grants, label

    # Sources, subjects, descriptors.

    def patch(self, dice: random.Random) -> None:
        """Somebody writes into a private mapping of a file, or maps something else."""
        page, tag = dice.randrange(sources.SOURCES), dice.randrange(1, 1 << 32)
        before = self.memory.origins[page]
        private = before is not None and before.kind is OriginClass.FILE and not before.deleted
        modified = sources.MODIFIED if private else dice.choice(sources.KINDS)
        self.memory.fill(page, modified if dice.random() < 0.5 else dice.choice(sources.KINDS), tag)

    def send(self, dice: random.Random) -> None:
        """SCM_RIGHTS."""
        one, other = dice.choice(self.processes), dice.choice(self.processes)
        if one.files:
            encl = dice.choice(one.files)
            if encl not in other.files:
                encl.file.dup()
                other.files.append(encl)

    def close_file(self, dice: random.Random) -> None:
        process = dice.choice(self.processes)
        if process.files and dice.random() < 0.5:
            encl = process.files.pop(dice.randrange(len(process.files)))
            encl.file.close()
            self.released([encl])

    def exit(self, dice: random.Random) -> None:
        if len(self.processes) > 1:
            self.end_process(dice.choice(self.processes))

    def another(self, dice: random.Random) -> None:
        """A program that has nothing to do with the others yet."""
        if len(self.processes) < 3:
            self.start(dice.choice(LABELS))

    def with_file(
        self, dice: random.Random, fits: Callable[[Enclave], object]
    ) -> tuple[Process, Enclave] | None:
        """A process and an enclave whose descriptor it has."""
        found = [(p, e) for p in self.processes for e in p.files if fits(e)]
        return dice.choice(found) if found else None
