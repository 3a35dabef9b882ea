"""Type enforcement: who may build enclaves of which files, who may use them, and what an enclave may do to itself.

Provenance rights lie on files, consumer rights on processes, and rights to run what nobody vouches for on the enclave,
whose type comes from its SIGSTRUCT (by a type_transition) or from whoever names it by its identity:

- ``open``, ``create``, ``provision``, ``vepc``: the caller on the nodes;
- ``load`` of any page, ``execute`` of code, ``execmod`` of code that was changed in a private copy: the caller on the
  file. Anonymous memory, and what counts as such, has no file to ask: its code owes ``execanon``;
- ``init``: the caller on the SIGSTRUCT's file. A SIGSTRUCT from elsewhere does only for an enclave that another module
  names;
- ``use``, ``map_read``, ``map_write``, ``map_exec``, ``debug``, ``modtype``: the caller on the enclave. Before INIT it
  has no type yet, and is the business of who may create enclaves;
- ``execdirty``, ``mapwx``, ``augexec``, ``execanon``, ``execunmr``: the enclave on itself, granted at INIT.

Where the answers come from is an :class:`Authority`: a policy of our own, or the SELinux of the host
(:mod:`swsgx.lsm.selinux`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Protocol

from swsgx.isa.flags import PageType
from swsgx.lsm.labels import Labels, file_of, owed, unmodified
from swsgx.lsm.module import (
    ALLOW,
    NO_GRANTS,
    Allow,
    Create,
    Debug,
    Deny,
    EnclaveEvent,
    Grant,
    Init,
    Label,
    Load,
    Map,
    Modify,
    Module,
    Obligations,
    Open,
    Origin,
    OriginClass,
    Provision,
    Receive,
    Subject,
    Vepc,
    Verdict,
)
from swsgx.lsm.policy.te import DEVICE, UNLABELED, Decision, TeStore

__all__ = ["Authority", "OwnPolicy", "TypeEnforcement"]

_EXEC = 4
#: How many answers about loads are kept.
_REMEMBERED = 4096
_PROTS = ((1, "map_read"), (2, "map_write"), (4, "map_exec"))
#: Granted by the enclave's type; who may turn pages into TCSs is judged when somebody does.
_ITS_OWN = (Grant.EXECDIRTY, Grant.MAPWX, Grant.AUGEXEC, Grant.EXECANON, Grant.EXECUNMR)


class Authority(Protocol):
    """Names subjects and objects, and says what one may do to another."""

    @property
    def device(self) -> str:
        """What the SGX nodes are called."""
        ...

    @property
    def unlabeled(self) -> str:
        """What an enclave is called that nobody has named."""
        ...

    def subject(self, subject: Subject | None, /) -> str:
        """What the caller is called."""
        ...

    def file(self, origin: Origin, /) -> str:
        """What a file is called."""
        ...

    def enclave(self, subject: str, sigstruct: str) -> tuple[str, str]:
        """What an enclave is called that a subject initialises with a SIGSTRUCT, and which rule says so.

        Returns:
            the name, and the rule's FILE:LINE; that is empty if no rule was needed, or it is not known.
        """
        ...

    def query(self, source: str, target: str, permission: str) -> Decision:
        """Whether one may do something to the other."""
        ...


class OwnPolicy:
    """A compiled policy of type enforcement, as :class:`Authority`."""

    device = DEVICE
    unlabeled = UNLABELED

    def __init__(self, labels: Labels) -> None:
        self._store: TeStore = labels.store
        self.subject = labels.subject
        self.file = labels.file

    def enclave(self, subject: str, sigstruct: str) -> tuple[str, str]:
        name, rule = self._store.enclave_type(subject, sigstruct)
        return name, str(rule.place) if rule is not None else ""

    def query(self, source: str, target: str, permission: str) -> Decision:
        return self._store.query(source, target, permission)


class _Question(NamedTuple):
    """All that a load is judged by: many blocks of one file, each with an offset of its own, ask the same."""

    subject: Subject | None
    file: tuple[str, str, bool, OriginClass] | None
    code: bool
    owed: Grant


class TypeEnforcement(Module):
    """Asks an authority.

    Args:
        authority: that knows the policy.

    Attributes:
        keeps_answers: the policy does not change while the module lives.
    """

    name: ClassVar[str] = "te"
    hands_out_grants: ClassVar[bool] = True
    keeps_answers: ClassVar[bool] = True

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self._loads: dict[_Question, Verdict] = {}

    # Nodes.

    def open(self, event: Open) -> Verdict:
        return self._on_device(event.subject, "open")

    def create(self, event: Create) -> Verdict:
        return self._on_device(event.subject, "create")

    def provision(self, event: Provision) -> Verdict:
        return self._on_device(event.subject, "provision")

    def vepc(self, event: Vepc) -> Verdict:
        return self._on_device(event.subject, "vepc")

    def _on_device(self, subject: Subject | None, permission: str) -> Verdict:
        return self._ask(self.authority.subject(subject), self.authority.device, (permission,))

    # Files.

    def load(self, event: Load) -> Verdict:
        file, code, owing = file_of(event.origin), bool(event.ceiling & _EXEC), owed(event)
        named = (file.path, file.label, file.unwatched, file.kind) if file is not None else None
        question = _Question(event.subject, named, code, owing)
        answer = self._loads.get(question) if self.keeps_answers else None
        if answer is None:
            answer = self._load(event.subject, file, code, owing)
            if len(self._loads) >= _REMEMBERED:
                self._loads.clear()
            self._loads[question] = answer
        return answer

    def _load(self, subject: Subject | None, file: Origin | None, code: bool, owing: Grant) -> Verdict:
        passed = Obligations(owing) if owing else ALLOW
        if file is None:
            return passed
        permissions: tuple[str, ...] = ("load",)
        if code:
            permissions += ("execute",)
            if file.kind is OriginClass.FILEMOD:
                permissions += ("execmod",)
        return self._ask(self.authority.subject(subject), self.authority.file(file), permissions, passed)

    # The enclave becomes somebody.

    def label(self, event: Init) -> Label | None:
        sigstruct = unmodified(event.origin)
        if sigstruct is None:
            return None
        subject = self.authority.subject(event.subject)
        return Label(self.authority.enclave(subject, self.authority.file(sigstruct))[0], default=True)

    def init(self, event: Init) -> Verdict:
        given = self._given(event.label) if event.label else Allow(grants=Grant.MODTYPE)
        sigstruct = unmodified(event.origin)
        if sigstruct is not None:
            subject, file = self.authority.subject(event.subject), self.authority.file(sigstruct)
            name, place = self.authority.enclave(subject, file)
            if place and name == event.label:
                given = dataclasses.replace(given, because=(place, *given.because))
            return self._ask(subject, file, ("init",), given)
        if event.label:
            return given
        return Deny(
            "a SIGSTRUCT comes from a file, or the enclave's identity is known and named",
            ("init",),
            "a file that was not modified, or an identity rule with a label",
            event.origin.kind.value if event.origin is not None else OriginClass.UNKNOWN.value,
            otherwise=given,
        )

    def _given(self, enclave: str) -> Allow:
        """What an enclave of this type may do to itself."""
        grants, tolerated = Grant.MODTYPE, NO_GRANTS
        told: list[str] = []
        rule, because = "", []
        for grant in _ITS_OWN:
            (permission,) = grant.permissions
            decision = self.authority.query(enclave, enclave, permission)
            if decision.allowed:
                grants |= grant
                because.append(decision)
                if decision.auditallow:
                    told.append(permission)
                    rule = rule or _place(decision)
            elif decision.permissive:
                tolerated |= grant
        return Allow(
            grants,
            tolerated,
            audited=bool(told),
            permissions=tuple(told),
            rule=rule,
            because=_places(because),
        )

    # The enclave is used.

    def receive(self, event: Receive) -> Verdict:
        return self._on_enclave(event, ("use",))

    def map(self, event: Map) -> Verdict:
        wanted = tuple(name for bit, name in _PROTS if event.prot & bit)
        # What cannot be touched is anybody's: to give up rights needs none.
        return self._on_enclave(event, ("use", *wanted)) if wanted else ALLOW

    def modify(self, event: Modify) -> Verdict:
        return self._on_enclave(event, ("modtype",) if event.page_type is PageType.TCS else ("use",))

    def debug(self, event: Debug) -> Verdict:
        return self._on_enclave(event, ("debug",))

    def _on_enclave(self, event: EnclaveEvent, permissions: tuple[str, ...]) -> Verdict:
        if not event.enclave.initialised:
            return self._on_device(event.subject, "create")
        target = event.enclave.label or self.authority.unlabeled
        return self._ask(self.authority.subject(event.subject), target, permissions)

    # The answer.

    def _ask(
        self, source: str, target: str, permissions: tuple[str, ...], passed: Allow | Obligations = ALLOW
    ) -> Verdict:
        """Whether all of it is allowed; ``passed`` if it is."""
        decisions = {name: self.authority.query(source, target, name) for name in permissions}
        lacking = [name for name, decision in decisions.items() if not decision.allowed]
        if lacking:
            told = [name for name in lacking if decisions[name].audited]
            return Deny(
                "type enforcement allows it",
                tuple(told or lacking),
                f"allow {source} {target} : enclave {{ {' '.join(lacking)} }}",
                "no such rule",
                audited=bool(told),
                permissive=all(decisions[name].permissive for name in lacking),
                otherwise=passed,
            )
        places = _places(decisions.values())
        if places:
            passed = dataclasses.replace(passed, because=tuple(dict.fromkeys((*places, *passed.because))))
        told = [name for name, decision in decisions.items() if decision.auditallow]
        if not told or not isinstance(passed, Allow):
            return passed
        return dataclasses.replace(
            passed,
            audited=True,
            permissions=(*told, *passed.permissions),
            rule=_place(decisions[told[0]]),
        )


def _places(decisions: Iterable[Decision]) -> tuple[str, ...]:
    """Where the rules stand, each once."""
    return tuple(dict.fromkeys(place for place in map(_place, decisions) if place))


def _place(decision: Decision) -> str:
    return str(decision.rule.place) if decision.rule is not None else ""
