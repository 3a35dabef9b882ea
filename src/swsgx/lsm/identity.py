"""Which enclaves may be initialised, by what they are and who signed them; it replaces launch control.

The rule that decides also says what the enclave is granted (nothing it does not say) and what it is called. So code
from anonymous memory, and code or entry points that were not measured, are obligations here as in type enforcement:
they take a rule that grants ``execanon`` or ``execunmr``.

What is not known (an enclave's identity before INIT, types where none are enforced) fulfils no condition. A rule that
denies must not be escaped by that, so one that comes first and would match but for what is not known, denies.
"""

from __future__ import annotations

import functools
import hashlib
from typing import ClassVar

from swsgx.isa.flags import Attributes
from swsgx.lsm.labels import Labels, owed
from swsgx.lsm.module import (
    ALLOW,
    NO_GRANTS,
    Allow,
    Create,
    Debug,
    Deny,
    Event,
    Grant,
    Init,
    Label,
    Load,
    Module,
    Obligations,
    Provision,
    Subject,
    Verdict,
)
from swsgx.lsm.policy.identity import IdentityFacts, IdentityRule, IdentityStore

__all__ = ["IdentityRules"]


class IdentityRules(Module):
    """Asks a compiled identity policy.

    Args:
        store: the policy.
        labels: types of subjects; None: there are none, and no rule that asks for one matches.
    """

    name: ClassVar[str] = "identity"
    hands_out_grants: ClassVar[bool] = True

    def __init__(self, store: IdentityStore, labels: Labels | None = None) -> None:
        self.store = store
        self.labels = labels

    def load(self, event: Load) -> Verdict:
        grants = owed(event)
        return Obligations(grants) if grants else ALLOW

    def label(self, event: Init) -> Label | None:
        rule = self._rule(self._of_init(event))
        return Label(rule.label) if rule is not None and rule.allow and rule.label is not None else None

    def init(self, event: Init) -> Verdict:
        facts = self._of_init(event)
        found = f"mrenclave=sha256:{event.identity.mrenclave.hex()} mrsigner=sha256:{event.identity.mrsigner.hex()}"
        return self._decide(event, facts, found)

    def create(self, event: Create) -> Verdict:
        facts = IdentityFacts(
            op="ENCLAVE_CREATE",
            size=event.size,
            debug=event.debug,
            provision_key=event.provisionkey,
            xfrm=event.xfrm,
            miscselect=event.miscselect,
            uid=_uid(event.subject),
            subj_type=self._type(event.subject),
        )
        return self._decide(event, facts, f"size={event.size:#x} attributes={event.attributes:#x}")

    def provision(self, event: Provision) -> Verdict:
        created, identity = event.enclave.size != 0, event.enclave.identity
        facts = IdentityFacts(
            op="ENCLAVE_PROVISION",
            debug=event.enclave.debug if created else None,
            provision_key=bool(event.enclave.attributes & Attributes.PROVISIONKEY) if created else None,
            xfrm=identity.xfrm if identity is not None else None,
            miscselect=identity.miscselect if identity is not None else None,
            uid=_uid(event.subject),
            subj_type=self._type(event.subject),
        )
        return self._decide(event, facts, f"uid={facts.uid}")

    def debug(self, event: Debug) -> Verdict:
        identity = event.enclave.identity
        facts = IdentityFacts(
            op="ENCLAVE_DEBUG",
            mrenclave=identity.mrenclave if identity is not None else None,
            mrsigner=identity.mrsigner if identity is not None else None,
            isvprodid=identity.isvprodid if identity is not None else None,
            isvsvn=identity.isvsvn if identity is not None else None,
            write=event.write,
            uid=_uid(event.subject),
            subj_type=self._type(event.subject),
        )
        return self._decide(event, facts, f"uid={facts.uid} write={str(event.write).upper()}")

    def _of_init(self, event: Init) -> IdentityFacts:
        identity = event.identity
        return IdentityFacts(
            op="ENCLAVE_INIT",
            mrenclave=identity.mrenclave,
            mrsigner=identity.mrsigner,
            sigstruct=hashlib.sha256(event.sigstruct.buffer).digest(),
            isvprodid=identity.isvprodid,
            isvsvn=identity.isvsvn,
            debug=identity.debug,
            provision_key=bool(identity.attributes & Attributes.PROVISIONKEY),
            xfrm=identity.xfrm,
            miscselect=identity.miscselect,
            unmeasured_exec=Grant.EXECUNMR in event.obligations,
            uid=_uid(event.subject),
            subj_type=self._type(event.subject),
        )

    def _type(self, subject: Subject | None) -> str | None:
        return self.labels.subject(subject) if self.labels is not None else None

    def _rule(self, facts: IdentityFacts) -> IdentityRule | None:
        decided = self.store.decide(facts)
        if decided is None or not decided.allow or not facts.unknown:
            return decided
        for rule in self.store.rules:
            if rule is decided:
                break
            known = (c for c in rule.conditions if getattr(facts, c.key) is not None)
            if not rule.allow and all(c.holds(getattr(facts, c.key)) for c in known):
                return rule
        return decided

    def _decide(self, event: Event, facts: IdentityFacts, found: str) -> Verdict:
        rule = self._rule(facts)
        if rule is None:
            return ALLOW
        granted = _grants(rule) if rule.allow and isinstance(event, Init) else NO_GRANTS
        given = Allow(grants=granted, because=(str(rule.rule.place),))
        if rule.allow:
            return given
        return Deny(
            "no identity rule matches, and the DEFAULT says no"
            if rule.default
            else "an identity rule says no",
            expected=f"a rule op={facts.op} ... action=ALLOW",
            found=found,
            rule=str(rule.rule.place),
            otherwise=given,
        )


def _grants(rule: IdentityRule) -> Grant:
    return functools.reduce(lambda one, name: one | Grant[name.upper()], rule.grants, NO_GRANTS)


def _uid(subject: Subject | None) -> int | None:
    return subject.uid if subject is not None else None
