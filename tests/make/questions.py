"""Questions to a policy as the driver asks them, answered and recorded by the real modules: what logs are made of.

There is no driver: events are made by hand, and what the modules say of them is all that there is. All goes on after a
refusal, as in permissive mode.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from swsgx.isa.address import PAGE_SIZE, Linaddr
from swsgx.isa.flags import Attributes, PageType
from swsgx.linux.security import (
    NO_GRANTS,
    Answer,
    Create,
    EnclaveFacts,
    Event,
    Grant,
    Identity,
    Map,
    Open,
    Origin,
    OriginClass,
    PageFlag,
    PageRange,
    Provision,
    Subject,
)
from swsgx.lsm import audit, decision
from swsgx.lsm.audit import AuditLog
from swsgx.lsm.identity import IdentityRules
from swsgx.lsm.labels import Labels
from swsgx.lsm.policy.load import PolicySet
from swsgx.lsm.records import DecisionWriter
from swsgx.lsm.stack import Mode, Stack
from swsgx.lsm.te import OwnPolicy, TypeEnforcement
from tests.make.events import init_event, load_event

_BASE, _PAGES = 0x10000, 4
_ATTRIBUTES = int(Attributes.MODE64BIT)
_NEW = EnclaveFacts(number=1)
_BUILDING = EnclaveFacts(number=1, base=_BASE, size=_PAGES * PAGE_SIZE, attributes=_ATTRIBUTES)
#: What pages of an initialised enclave have been that need a grant to be executed.
_HAVE_BEEN = {"execdirty": PageFlag.EVER_W, "augexec": PageFlag.EVER_W | PageFlag.AUGMENTED}


class _Recorder:
    """Keeps records, as they would be written."""

    def __init__(self, labels: Labels) -> None:
        self._writer = DecisionWriter(_NO_LOG)
        self._writer.labels = labels
        self.told: list[audit.Decision] = []

    def record(self, made: decision.Decision) -> None:
        self.told.append(self._writer.record_of(made))


class _NoLog(AuditLog):
    """A log that is never written."""

    def __init__(self) -> None:
        """Nothing is opened."""


_NO_LOG = _NoLog()


class _Asked:
    """The modules of a policy, permissive, and what they record."""

    def __init__(self, policy: PolicySet) -> None:
        assert policy.te is not None
        labels = Labels(policy.te)
        modules = [TypeEnforcement(OwnPolicy(labels))]
        named = [IdentityRules(policy.identity, labels)] if policy.identity is not None else []
        self._recorder = _Recorder(labels)
        self._stack = Stack([*modules, *named], mode=Mode.PERMISSIVE, audit=self._recorder)

    @property
    def told(self) -> list[audit.Decision]:
        return self._recorder.told

    def ask(self, event: Event) -> Answer:
        answer = self._stack.decide(event)
        assert answer.reason is None
        return answer


def _subject(exe: str) -> Subject:
    return Subject(7, 1000, exe, comm="x")


@dataclass(frozen=True)
class OnDevice:
    """Opens a node, or makes an enclave."""

    exe: str
    permission: str

    def refusals(self, policy: PolicySet) -> list[audit.Decision]:
        asked, subject = _Asked(policy), _subject(self.exe)
        events = {
            "open": Open(subject=subject, node="/dev/sgx_enclave"),
            "create": Create(
                subject=subject,
                enclave=_NEW,
                size=_BUILDING.size,
                attributes=_ATTRIBUTES,
                xfrm=3,
                miscselect=0,
            ),
            "provision": Provision(subject=subject, enclave=_BUILDING),
        }
        asked.ask(events[self.permission])
        return asked.told


@dataclass(frozen=True)
class AddsPages:
    """Adds pages of a file."""

    exe: str
    path: str
    maxprot: int
    modified: bool = False

    def refusals(self, policy: PolicySet) -> list[audit.Decision]:
        asked = _Asked(policy)
        kind = OriginClass.FILEMOD if self.modified else OriginClass.FILE
        origin = Origin(kind=kind, path=self.path, inode=5)
        asked.ask(load_event(_subject(self.exe), origin, ceiling=self.maxprot))
        return asked.told


@dataclass(frozen=True)
class Lives:
    """Initialises an enclave with a SIGSTRUCT of a file, lets it do things to itself, and maps it.

    Attributes:
        exe: who initialises it.
        path: of the SIGSTRUCT.
        mrenclave, mrsigner: of the enclave.
        user: who maps it.
        prot: how.
        itself: grants that it needs.
    """

    exe: str
    path: str
    mrenclave: bytes
    user: str
    prot: int
    itself: tuple[str, ...] = ()
    mrsigner: bytes = field(default=bytes(32))

    def refusals(self, policy: PolicySet) -> list[audit.Decision]:
        asked = _Asked(policy)
        owing = [Grant[name.upper()] for name in self.itself if name not in _HAVE_BEEN]
        event = init_event(
            _subject(self.exe),
            Origin(kind=OriginClass.FILE, path=self.path, inode=6),
            owing=functools.reduce(lambda one, other: one | other, owing, NO_GRANTS),
            mrenclave=self.mrenclave,
            mrsigner=self.mrsigner,
        )
        answer = asked.ask(event)
        enclave = EnclaveFacts(
            number=1,
            base=_BASE,
            size=_PAGES * PAGE_SIZE,
            attributes=_ATTRIBUTES,
            initialised=True,
            label=answer.label,
            grants=answer.grants,
            tolerated=answer.tolerated,
            identity=Identity(self.mrenclave, self.mrsigner, 7, 3, _ATTRIBUTES, 3, 0),
        )
        user = _subject(self.user)
        for name in self.itself:
            if name in _HAVE_BEEN:
                asked.ask(_mapped(enclave, user, 5, _HAVE_BEEN[name]))
        # Both at once takes mapwx, which policies forbid in so many words.
        asked.ask(_mapped(enclave, user, self.prot & ~2 if self.prot & 4 else self.prot, PageFlag(0)))
        return asked.told


def _mapped(enclave: EnclaveFacts, user: Subject, prot: int, been: PageFlag) -> Map:
    zeros = np.zeros(1, np.uint8)
    types, flags = zeros + np.uint8(PageType.REG), zeros + np.uint8(been)
    pages = PageRange(0, 0, types, flags, zeros, np.zeros(1, np.uint32), ())
    return Map(
        subject=user,
        enclave=enclave,
        call="mmap",
        address=Linaddr(_BASE),
        length=PAGE_SIZE,
        prot=prot,
        pages=pages,
    )


Question = OnDevice | AddsPages | Lives
