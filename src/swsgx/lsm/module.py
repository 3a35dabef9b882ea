"""What a security module is: the class to derive from, and the answers that it can give.

A module is a class with a name and a method for each hook point that it cares about; the others allow. It decides by
the event alone, changes nothing, and says why when it refuses::

    from swsgx.lsm.module import ALLOW, Deny, Load, Module, Verdict

    class OnlyFromOpt(Module):
        \"\"\"Enclave code comes from files below /opt.\"\"\"

        name = "only_from_opt"

        def load(self, event: Load) -> Verdict:
            if not event.ceiling & 4:
                return ALLOW
            if event.origin is None or event.origin.anonymous:
                return Deny("code comes from a file", ("execute",), expected="a file", found="anonymous memory")
            if not event.origin.path.startswith("/opt/"):
                return Deny("code comes from /opt", ("execute",), expected="/opt/...", found=event.origin.path)
            return ALLOW

It is found by its entry point in the group ``swsgx.lsm``, which names the class.

What a module cannot know when pages are added, it can leave to INIT: :class:`Obligations` are put on the pages, which
may not be mapped executable until INIT has succeeded, and INIT fails unless the enclave is granted all of them. Grants
come from the modules that set ``hands_out_grants``; an enclave has what all of these gave it. With such a module in the
stack, pages are also watched from mapping to mapping: :mod:`swsgx.lsm.page_rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from swsgx.linux.security import (
    NO_GRANTS,
    Answer,
    Augment,
    Create,
    Debug,
    EnclaveEvent,
    EnclaveFacts,
    Event,
    Grant,
    Identity,
    Init,
    Load,
    Map,
    Modify,
    Open,
    Origin,
    OriginClass,
    PageFlag,
    PageRange,
    Provision,
    Receive,
    Subject,
    Vepc,
)

__all__ = [
    "ALLOW",
    "NO_GRANTS",
    "Allow",
    "Answer",
    "Augment",
    "CommitFailed",
    "Create",
    "Debug",
    "Deny",
    "EnclaveEvent",
    "EnclaveFacts",
    "Event",
    "Grant",
    "Identity",
    "Init",
    "Label",
    "Load",
    "Map",
    "Modify",
    "Module",
    "Obligations",
    "Open",
    "Origin",
    "OriginClass",
    "PageFlag",
    "PageRange",
    "Provision",
    "Receive",
    "Subject",
    "Vepc",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Allow:
    """Yes.

    Attributes:
        grants: of an init, and of a module that hands out grants only; no other may set it.
        tolerated: of the same: what is withheld, but only told when it is used.
        audited: it is to be recorded all the same (auditallow), with the following.
        permissions: that were needed.
        rule: where the policy says so, such as ``"te:14"``.
    """

    grants: Grant = NO_GRANTS
    tolerated: Grant = NO_GRANTS
    audited: bool = False
    permissions: tuple[str, ...] = ()
    rule: str = ""


#: Yes, and nothing else to say.
ALLOW = Allow()


@dataclass(frozen=True, slots=True)
class Obligations:
    """Yes, if the enclave's identity turns out to be granted these; of a load only.

    A module that says this hands out grants itself: an obligation that it never grants could not be discharged.
    """

    grants: Grant


@dataclass(frozen=True, slots=True)
class Deny:
    """No.

    Attributes:
        reason: the rule that does not hold, in words.
        permissions: of class ``enclave`` that are lacking; by default those that the hook is about.
        expected, found: what would have been allowed, and what was there.
        rule: where the policy says so, such as ``"te:14"``.
        audited: it is recorded; False is dontaudit.
        permissive: it has no effect, and is only told.
        otherwise: what is said where the refusal has no effect.
    """

    reason: str
    permissions: tuple[str, ...] = ()
    expected: str = ""
    found: str = ""
    rule: str = ""
    audited: bool = True
    permissive: bool = False
    otherwise: Allow | Obligations = ALLOW


Verdict = Allow | Obligations | Deny


@dataclass(frozen=True, slots=True)
class Label:
    """The security label of an enclave that becomes initialised.

    Attributes:
        name: the label.
        default: it gives way to a label that is none; two different ones of a kind are a refusal.
    """

    name: str
    default: bool = False


class CommitFailed(Exception):
    """What was allowed must not happen, since it could not be recorded."""


class Module:
    """A security module that allows everything.

    A method must decide by its event and by the policy only, and must not change anything; it can be called by several
    threads. One that raises, takes too long, or returns what a hook cannot return, has refused. The arrays and the
    contents of an event are not to be kept.

    Attributes:
        name: in audit records, and for whoever makes it permissive.
        hands_out_grants: :meth:`init` says what an enclave is granted, and what it does not say is withheld.
    """

    name: ClassVar[str] = "module"
    hands_out_grants: ClassVar[bool] = False

    def open(self, event: Open) -> Verdict:
        """A node is opened."""
        return ALLOW

    def create(self, event: Create) -> Verdict:
        """Before ECREATE allocates."""
        return ALLOW

    def load(self, event: Load) -> Verdict:
        """Before pages are inserted and measured."""
        return ALLOW

    def label(self, event: Init) -> Label | None:
        """What the enclave will be called; asked before :meth:`init`, which finds the outcome in ``event.label``."""
        return None

    def init(self, event: Init) -> Verdict:
        """Before the enclave is initialised, when EINIT would succeed."""
        return ALLOW

    def augment(self, event: Augment) -> Verdict:
        """Before EAUG adds pages."""
        return ALLOW

    def modify(self, event: Modify) -> Verdict:
        """Before EMODT, EMODPR or EREMOVE of pages."""
        return ALLOW

    def map(self, event: Map) -> Verdict:
        """Before a mapping exists or changes."""
        return ALLOW

    def receive(self, event: Receive) -> Verdict:
        """The enclave's file is first used by a new subject."""
        return ALLOW

    def debug(self, event: Debug) -> Verdict:
        """Before EDBGRD or EDBGWR."""
        return ALLOW

    def provision(self, event: Provision) -> Verdict:
        """Before the provision attribute is allowed."""
        return ALLOW

    def vepc(self, event: Vepc) -> Verdict:
        """Before a virtual EPC is mapped."""
        return ALLOW

    def commit(self, event: Event, answer: Answer) -> None:
        """All modules have allowed it, and it is about to happen: record it, or raise.

        Args:
            event: what happens.
            answer: with the obligations, grants and label that came of it.

        Raises:
            CommitFailed: it must not happen.
        """
