"""What is asked at hook points, as few words; who hears it; and policies whose answers anybody can work out.

A question is made twice: here, of an event that the driver made, and by the ghost, of what it is about to call. They
must be the same.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from swsgx.linux.provenance import Origin, Subject
from swsgx.linux.security import (
    Augment,
    Create,
    Debug,
    EnclaveEvent,
    Grant,
    Init,
    Load,
    Map,
    Modify,
    Receive,
)
from swsgx.lsm.module import ALLOW, Allow, Answer, CommitFailed, Deny, Event, Module, Obligations, Verdict
from tests.lsm.ghost.book import Named

__all__ = [
    "Asked",
    "First",
    "Policy",
    "Question",
    "Second",
    "Witness",
    "named",
    "seen",
    "source_name",
    "together",
]


class Question(NamedTuple):
    """What an event asks.

    Attributes:
        hook, call: as in events.
        subject: who asks.
        enclave: its number.
        offset, length: bytes.
        what: all else that matters, hook by hook.
    """

    hook: str
    call: str = ""
    subject: Named | None = None
    enclave: int = 0
    offset: int = 0
    length: int = 0
    what: tuple[object, ...] = ()


def named(subject: Subject | None) -> Named | None:
    return (subject.pid, subject.label) if subject is not None else None


def source_name(origin: Origin | None) -> str:
    if origin is None:
        return "unknown"
    return "deleted" if origin.deleted else f"{origin.kind.value}{origin.path}"


def seen(event: Event) -> Question:
    """The question of an event."""
    who = named(event.subject)
    number = event.enclave.number if isinstance(event, EnclaveEvent) else 0
    match event:
        case Create():
            return Question("create", "", who, number, 0, event.size, (event.debug,))
        case Load():
            load = (event.page_type.name, event.ceiling, event.measured, source_name(event.origin))
            return Question("load", "", who, number, event.offset, event.length, load)
        case Init():
            return Question("init", "", who, number, what=(source_name(event.origin), int(event.obligations)))
        case Augment():
            waits = (event.explicit, event.mapped)
            return Question("augment", "", who, number, event.offset, event.length, waits)
        case Modify():
            kind = event.page_type.name if event.page_type is not None else ""
            return Question(
                "modify", event.leaf, who, number, event.offset, event.length, (kind, event.permissions)
            )
        case Map():
            return Question("map", event.call, who, number, event.offset, event.length, (event.prot,))
        case Receive():
            return Question("receive", "", who, number, what=(named(event.previous),))
        case Debug():
            return Question("debug", "", who, number, event.offset, event.length, (event.write,))
        case _:
            return Question(event.hook, "", who, number)


def together(questions: list[Question]) -> list[Question]:
    """Pages of one origin may come block by block, and a debugger's access may be tried again: that is one question."""
    found: list[Question] = []
    for one in questions:
        last = found[-1] if found else None
        same = last is not None and last[:4] == one[:4] and last.what == one.what
        if last is not None and same and one.hook == "load" and last.offset + last.length == one.offset:
            found[-1] = last._replace(length=last.length + one.length)
        elif one.hook != "debug" or last != one:
            found.append(one)
    return found


class Asked(Exception):
    """What a module that crashes raises."""


@dataclass
class Policy:
    """Answers of two modules, worked out of a number: the same question has the same answer.

    Attributes:
        number: another number, another policy.
        density: of refusals, in percent.
        crashing: module and hook that crash now, and whether by nonsense.
    """

    number: int
    density: int
    crashing: tuple[str, str, bool] | None = None

    def _dice(self, *what: object) -> random.Random:
        return random.Random(zlib.crc32(repr((self.number, what)).encode()))

    def denies(self, module: str, question: Question) -> bool:
        """What one module says."""
        if self.crashing is not None and self.crashing[:2] == (module, question.hook):
            return True
        label = question.subject[1] if question.subject is not None else ""
        what: tuple[object, ...] = question.what
        if question.hook == "load":
            what = (question.what[0], question.what[1:3] if question.what[3] else (), question.what[3])
        elif question.hook in ("init", "augment"):
            what = question.what[:1]
        elif question.hook == "receive":
            what = ()
        dice = self._dice(module, question.hook, question.call, label, what)
        return dice.randrange(100) < self.density

    def owes(self, module: str, question: Question) -> int:
        """Obligations of pages that are let in: few, so that most enclaves become initialised."""
        dice = self._dice(module, "owes", question.what)
        return sum(int(grant) for grant in Grant if not dice.randrange(20))

    def grants(self, module: str, enclave: int) -> int:
        """What a module gives an enclave; what both give is often all but one, so that each rule decides alone."""
        dice = self._dice("grants", enclave)
        every = [int(grant) for grant in Grant]
        withheld = dice.choice([every, [], [dice.choice(every)], [dice.choice(every)], dice.sample(every, 3)])
        mine = [grant for grant in withheld if dice.choice(["first", "second"]) == module]
        return sum(every) - sum(mine)


class _Toy(Module):
    """A module that a :class:`Policy` speaks through."""

    hands_out_grants: ClassVar[bool] = True

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def _say(self, event: Event) -> Verdict:
        policy, question = self.policy, seen(event)
        if policy.crashing is not None and policy.crashing[:2] == (self.name, event.hook):
            if policy.crashing[2]:
                return "nonsense"  # type: ignore[return-value]  # what a broken module does
            raise Asked(event.hook)
        if policy.denies(self.name, question):
            return Deny(f"policy {policy.number}")
        if isinstance(event, Load):
            owes = policy.owes(self.name, question)
            return Obligations(Grant(owes)) if owes else ALLOW
        if isinstance(event, Init):
            return Allow(grants=Grant(policy.grants(self.name, event.enclave.number)))
        return ALLOW

    open = create = load = init = augment = modify = map = receive = debug = _say


class First(_Toy):
    """Is asked in the caller's thread, as modules of the package are: it is quicker."""

    name: ClassVar[str] = "first"


First.__module__ = "swsgx.lsm.first"


class Second(_Toy):
    """Is asked in a thread of its own, as modules of others are."""

    name: ClassVar[str] = "second"


class Witness(Module):
    """Allows all, and remembers what it heard.

    Attributes:
        heard, committed: since the last look.
        fails: hook whose commits fail; empty: none.
    """

    name: ClassVar[str] = "witness"

    def __init__(self) -> None:
        self.heard: list[Question] = []
        self.committed: list[Question] = []
        self.fails = ""

    def _hear(self, event: Event) -> Verdict:
        self.heard.append(seen(event))
        return ALLOW

    open = create = load = init = augment = modify = map = receive = debug = _hear

    def commit(self, event: Event, answer: Answer) -> None:
        self.committed.append(seen(event))
        if event.hook == self.fails:
            raise CommitFailed(event.hook)


Witness.__module__ = "swsgx.lsm.witness"
