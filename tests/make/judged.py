"""A world with a security stack: modules that say what a test tells them, and a log that keeps what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from swsgx.linux.device import EnclaveFile
from swsgx.linux.mm import MAP_FIXED, MAP_SHARED, AddressSpace
from swsgx.linux.outcome import Outcome
from swsgx.linux.profile import UPSTREAM_6_12, Profile
from swsgx.linux.security import NO_GRANTS, Grant, PageFlag, Subject
from swsgx.lsm.decision import Decision
from swsgx.lsm.invariant import Books, check, keep_books
from swsgx.lsm.module import ALLOW, Allow, Answer, Deny, Event, Load, Module, Obligations, Verdict
from swsgx.lsm.stack import Mode, Stack
from tests.make.world import BASE, World, make_world

LOADER, APP = Subject(1, 1000, "/bin/loader"), Subject(2, 1000, "/bin/app")


@dataclass
class Log:
    """Keeps every record."""

    decisions: list[Decision] = field(default_factory=list)

    def record(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def one(self) -> Decision:
        """The only record since the last look."""
        [decision] = self.decisions
        self.decisions.clear()
        return decision


class Told(Module):
    """Says at each hook what it was told to say, and allows the rest."""

    name = "told"

    def __init__(self, **says: Verdict | Callable[[Event], object]) -> None:
        self.says = says
        self.heard: list[Event] = []

    def _say(self, event: Event) -> Verdict:
        self.heard.append(event)
        said = self.says.get(event.hook, ALLOW)
        return said(event) if callable(said) else said  # type: ignore[return-value]  # tests return nonsense, too

    open = create = load = init = augment = modify = map = receive = debug = provision = vepc = _say


class Granting(Told):
    """Grants every enclave the same, and puts the same obligation on every executable page."""

    name = "granting"
    hands_out_grants: ClassVar[bool] = True

    def __init__(
        self, grants: Grant = NO_GRANTS, owes: Grant = NO_GRANTS, **says: Verdict | Callable[[Event], object]
    ) -> None:
        super().__init__(**says)
        self.grants = grants
        self.owes = owes

    def init(self, event: Event) -> Verdict:
        self.heard.append(event)
        return Allow(grants=self.grants)

    def load(self, event: Event) -> Verdict:
        said = self._say(event)
        owing = said == ALLOW and self.owes and isinstance(event, Load) and event.ceiling & 4
        return Obligations(self.owes) if owing else said


class Recording(Module):
    """Commits what it hears, or fails to."""

    name = "recording"

    def __init__(self) -> None:
        self.entries: list[tuple[Event, Answer]] = []
        self.fails: Exception | None = None

    def commit(self, event: Event, answer: Answer) -> None:
        if self.fails is not None:
            raise self.fails
        self.entries.append((event, answer))


@dataclass
class Judged:
    """A world, its stack, and what the stack has recorded."""

    world: World
    stack: Stack
    log: Log

    def map(
        self,
        file: EnclaveFile,
        first: int,
        count: int,
        prot: int,
        mm: AddressSpace | None = None,
        subject: Subject | None = LOADER,
    ) -> Outcome:
        """Mmap with MAP_FIXED of pages by index."""
        space = mm if mm is not None else self.world.mm
        where = BASE + first * 0x1000
        return space.mmap(where, count * 0x1000, prot, MAP_SHARED | MAP_FIXED, file, subject=subject)

    def protect(
        self,
        first: int,
        count: int,
        prot: int,
        mm: AddressSpace | None = None,
        subject: Subject | None = LOADER,
    ) -> Outcome:
        """Mprotect of pages by index."""
        space = mm if mm is not None else self.world.mm
        return space.mprotect(BASE + first * 0x1000, count * 0x1000, prot, subject=subject)

    def flags(self, file: EnclaveFile, page: int) -> PageFlag:
        security = file.encl.security
        assert security is not None
        return PageFlag(int(security.pages.flags[page]))

    def refused(self, call: Callable[[], Outcome], *permissions: str, number: int = 13) -> Decision:
        """A call is refused with these permissions lacking, gives one record, and leaves everything as it was."""
        before = self.books()
        self.log.decisions.clear()
        outcome = call()
        assert outcome.errno == number, str(outcome.reason)
        decision = self.log.one()
        assert decision.denied
        assert not decision.permissive
        assert decision.permissions == permissions
        assert self.books() == before
        self.check()
        return decision

    def books(self) -> Books:
        return keep_books(self.world.driver)

    def check(self) -> None:
        check(self.world.driver, self.stack)


#: Whose files are open; tests/lsm/conftest.py closes them behind each test.
MADE: list[Judged] = []


def judged(
    *modules: Module,
    mode: Mode = Mode.ENFORCING,
    permissive: tuple[str, ...] = (),
    profile: Profile = UPSTREAM_6_12,
    timeout: float = 5,
    epc_pages: int = 1024,
) -> Judged:
    """A world whose driver asks a stack of these modules."""
    world, log = make_world(profile, epc_pages=epc_pages), Log()
    stack = Stack(modules, mode=mode, permissive=permissive, audit=log, timeout=timeout)
    world.driver.security = stack
    world.task.subject = LOADER
    made = Judged(world, stack, log)
    MADE.append(made)
    return made


def no(reason: str = "no", *permissions: str) -> Deny:
    return Deny(reason, permissions)
