"""Candidates of identity: rules for enclaves that were refused, or that lacked a grant, by their MRENCLAVE.

There is one identity policy at a time, and its first rule that matches decides. So what is made is that policy with
rules put in: behind all others for what its DEFAULT refused; before a rule that allows but grants too little, and then
only for what that rule allows. A rule that says no in so many words is nobody's oversight, and is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from swsgx.lsm.audit import TRAITS, Decision, Event
from swsgx.lsm.learn.names import Names, told_type
from swsgx.lsm.learn.proposal import Candidate, Piece, Tally, warnings_of
from swsgx.lsm.policy.identity import GRANTS, OPERATIONS, IdentityFacts, IdentityRule, IdentityStore
from swsgx.lsm.policy.source import Source
from swsgx.lsm.policy.te import UNLABELED

__all__ = ["OPERATION_OF", "IdentityLearner", "facts_of", "in_its_file", "may_match", "rule_of"]

#: The operation that a hook asks the identity policy about.
OPERATION_OF = {
    "init": "ENCLAVE_INIT",
    "create": "ENCLAVE_CREATE",
    "provision": "ENCLAVE_PROVISION",
    "debug": "ENCLAVE_DEBUG",
}
_INIT = "ENCLAVE_INIT"
_RESULTS = ("op", "mrenclave", "grant", "label", "action")


def facts_of(decision: Decision, operation: str, subject: str | None) -> IdentityFacts:
    """What a record tells of an operation; the rest is not known.

    A record of a page tells of an enclave that was initialised before, and perhaps by another process.
    """
    own = OPERATION_OF.get(decision.hook) == operation
    traits = decision.traits
    given = {
        **{name: getattr(traits, name) for name in TRAITS},
        "mrenclave": decision.mrenclave or None,
        "mrsigner": decision.mrsigner or None,
        "sigstruct": traits.sigstruct or None,
        "subj_type": subject if own else None,
        "uid": decision.uid if own else None,
    }
    known = {key: value for key, value in given.items() if key in OPERATIONS[operation]}
    return IdentityFacts(op=operation, **known)


def in_its_file(decision: Decision) -> bool:
    """Whether a SIGSTRUCT was in a file as it is, which type enforcement can believe."""
    return decision.source.kind == "file" and decision.source.named


def may_match(rule: IdentityRule, facts: IdentityFacts) -> bool:
    """Whether nothing that is known speaks against it."""
    values = [(condition, getattr(facts, condition.key)) for condition in rule.conditions]
    return all(value is None or condition.holds(value) for condition, value in values)


def rule_of(store: IdentityStore, told: str) -> IdentityRule | None:
    """The rule that a record names as FILE:LINE; the file may lie in another folder by now."""
    file, _, line = told.rpartition(":")
    if not line.isascii() or not line.isdigit() or len(line) > 9:
        return None
    rules: list[IdentityRule] = [*store.rules, *store.defaults.values()]
    for rule in rules:
        place = rule.rule.place
        if place.line == int(line) and PurePath(place.file).name == PurePath(file).name:
            return rule
    return None


@dataclass(slots=True)
class _Wanted:
    """What is wanted for one enclave, or for one kind of subject."""

    decision: Decision
    subject: str
    tally: Tally = field(default_factory=Tally)
    refused: bool = False
    grants: dict[str, None] = field(default_factory=dict)
    label: str = ""
    debug: set[bool | None] = field(default_factory=set)
    denier: IdentityRule | None = None


class IdentityLearner:
    """Goes through a log once, after types were found.

    Args:
        names: of types.
        store: the policy; None: there is none.
        source: its file.
        forbidden: enclave types, each with a permission that type enforcement must not give it: to grant it would be
            of no use.

    Attributes:
        unsolved: what no identity rule can help, with how many records say so.
        already: records whose question the policy allows by now.
    """

    def __init__(
        self,
        names: Names,
        store: IdentityStore | None,
        source: Source | None,
        forbidden: Collection[tuple[str, str]] = (),
    ) -> None:
        self.names, self.store, self.source = names, store, source
        self.forbidden = forbidden
        self.unsolved: dict[str, Tally] = {}
        self.already = 0
        self._wanted: dict[tuple[str, bytes, bytes, str], _Wanted] = {}
        self._signers: dict[bytes, set[bytes]] = {}
        self._before: dict[int, list[Candidate]] = {}
        self._replaced: set[int] = set()
        self._behind: list[Candidate] = []
        self._operations: dict[str, None] = {_INIT: None}

    def take(self, events: Iterable[tuple[Event, Decision]]) -> None:
        """Learn from refusals of the module ``identity``, from lacking grants, and from SIGSTRUCTs without a file."""
        listed = list(events)
        in_use = self.store is not None or any(decision.lsm == "identity" for _, decision in listed)
        for event, decision in listed:
            if decision.lsm == "identity":
                self._refusal(event, decision)
            elif decision.lsm == "page_rules" and in_use and {*decision.permissions} & {*GRANTS}:
                self._lacking(event, decision)
            elif decision.lsm == "te" and decision.hook == "init" and not in_its_file(decision):
                label = self.names.enclaves.get(decision.mrenclave)
                if label is not None:
                    self._want(event, decision, _INIT).label = label
        for (operation, *_), wanted in self._wanted.items():
            self._propose(operation, wanted)

    def _want(self, event: Event, decision: Decision, operation: str) -> _Wanted:
        # Of an enclave that is initialised its identity tells enough, and a program needs no type for it.
        typed = operation != _INIT and self.names.typed
        subject = self.names.subject(decision) if typed else UNLABELED
        if "mrenclave" in OPERATIONS[operation] and decision.mrenclave:
            # Debugging is for who does it; an initialised enclave is the same whoever made it.
            key = (operation, decision.mrenclave, decision.mrsigner, subject)
            self._signers.setdefault(decision.mrenclave, set()).add(decision.mrsigner)
        else:
            key = (operation, b"", b"", subject)
        wanted = self._wanted.setdefault(key, _Wanted(decision, subject))
        wanted.tally.add(event.milliseconds)
        wanted.debug.add(decision.traits.debug)
        return wanted

    def _refusal(self, event: Event, decision: Decision) -> None:
        operation = OPERATION_OF.get(decision.hook)
        if operation is None:
            self._fail(event, f"{decision.hook}, which no identity rule is about")
        elif operation == _INIT and not decision.mrenclave:
            self._fail(event, "a record of init without an MRENCLAVE")
        else:
            wanted = self._want(event, decision, operation)
            wanted.refused = True
            told = rule_of(self.store, decision.rule) if self.store is not None else None
            if told is not None and not told.default and not told.allow:
                wanted.denier = told

    def _lacking(self, event: Event, decision: Decision) -> None:
        if not decision.mrenclave:
            self._fail(event, "a page of an enclave that has no MRENCLAVE yet")
            return
        enclave = self.names.enclave(decision) if self.names.typed else ""
        asked = [name for name in decision.permissions if name in GRANTS]
        useful = [name for name in asked if (enclave, name) not in self.forbidden]
        if useful:
            self._want(event, decision, _INIT).grants |= dict.fromkeys(useful)
        for name in asked:
            if name not in useful:
                self._fail(event, f"{name}, which a neverallow keeps from {enclave}")

    def _fail(self, event: Event, why: str) -> None:
        self.unsolved.setdefault(why, Tally()).add(event.milliseconds)

    # From what is wanted to a rule.

    def _propose(self, operation: str, wanted: _Wanted) -> None:
        store = self.store
        if store is None:
            self._operations[operation] = None
            self._behind.append(self._rule(operation, wanted))
            return
        default = store.defaults.get(operation)
        if default is None:
            self.already += wanted.tally.count
            return
        subject = wanted.subject if operation != _INIT else told_type(wanted.decision.scontext)
        facts = facts_of(wanted.decision, operation, subject if self.names.known(subject) else None)
        possible: list[IdentityRule] = []
        decided: IdentityRule | None = None
        for rule in store.rules:
            if may_match(rule, facts):
                possible.append(rule)
                if all(getattr(facts, condition.key) is not None for condition in rule.conditions):
                    decided = rule
                    break
        denier = wanted.denier or (decided if decided is not None and not decided.allow else None)
        if wanted.refused and denier is not None and (decided is None or not decided.allow):
            made = self._rule(operation, wanted)
            made.refused = f"a rule says no to it: {denier.rule}"
            self._behind.append(made)
        elif wanted.refused and decided is None and not default.allow:
            self._behind.append(self._rule(operation, wanted))
        else:
            self._widen(operation, wanted, possible, default if decided is None else None)

    def _widen(
        self, operation: str, wanted: _Wanted, possible: list[IdentityRule], default: IdentityRule | None
    ) -> None:
        """Grants, or a label, besides what rules give that may be the one that allowed it."""
        allowing = [rule for rule in possible if rule.allow]
        done = 0
        for rule in allowing:
            missing = [name for name in wanted.grants if name not in rule.grants]
            if not missing and (not wanted.label or rule.label is not None):
                continue
            done += 1
            line = rule.rule.place.line
            made = self._rule(operation, wanted, rule)
            same = any(condition.key == "mrenclave" for condition in rule.conditions)
            if same and not self._signed_by_one_of_many(rule, wanted):
                # What is left for the old rule would be nothing, and that is a mistake.
                made.instead = rule.rule.text
                self._replaced.add(line)
            self._before.setdefault(line, []).append(made)
        if done:
            return
        if (wanted.grants or wanted.label) and not allowing and default is not None:
            self._behind.append(self._rule(operation, wanted))
        else:
            self.already += wanted.tally.count

    def _signed_by_one_of_many(self, like: IdentityRule | None, wanted: _Wanted) -> bool:
        """Whether a rule must name the signer too: one MRENCLAVE came with several, and with different needs."""
        named = like is not None and any(condition.key == "mrsigner" for condition in like.conditions)
        several = len(self._signers.get(wanted.decision.mrenclave, ())) > 1
        return several and bool(wanted.decision.mrsigner) and not named

    def _rule(self, operation: str, wanted: _Wanted, like: IdentityRule | None = None) -> Candidate:
        decision, subject = wanted.decision, wanted.subject
        words = [f"op={operation}"]
        narrow = "mrenclave" in OPERATIONS[operation] and bool(decision.mrenclave)
        if narrow:
            words.append(f"mrenclave=sha256:{decision.mrenclave.hex()}")
        if operation != _INIT and subject != UNLABELED:
            words.append(f"subj_type={subject}")
            narrow = True
        if self._signed_by_one_of_many(like, wanted):
            words.append(f"mrsigner=sha256:{decision.mrsigner.hex()}")
        closed = operation == _INIT and narrow and like is None and wanted.debug == {False}
        words += ["debug=FALSE"] if closed else []
        if like is not None:
            words += [word for word in like.rule.text.split() if _key(word) not in _RESULTS]
        grants = [*(like.grants if like is not None else ()), *wanted.grants]
        given = [name for name in GRANTS if name in grants]
        label = wanted.label if like is None or like.label is None else like.label
        words += [f"grant={','.join(given)}"] if given else []
        words += [f"label={label}"] if label else []
        notes = [str(wanted.tally)]
        who = decision.exe or decision.comm
        if who:
            path = decision.source.path
            notes.append(f"{decision.hook}{f' of {path}' if path else ''} by {who}")
        notes += warnings_of(wanted.grants)
        if like is not None:
            notes.append(f"as {like.rule.place}, with more for this one enclave")
        if operation == _INIT:
            if True in wanted.debug:
                notes.append("WARNING: it can be debugged, so whoever debugs it can read and change it")
            elif not closed:
                notes.append(
                    "MRENCLAVE does not say whether the enclave can be debugged: debug=FALSE would, if it cannot"
                )
            if decision.mrsigner and not given and like is None:
                notes.append(f"wider, all of its signer: mrsigner=sha256:{decision.mrsigner.hex()}")
        else:
            notes += warnings_of([decision.hook])
        if not narrow:
            notes.append("WARNING: for everybody; a policy of type enforcement would tell subjects apart")
        return Candidate(" ".join([*words, "action=ALLOW"]), notes)

    # What came of it.

    def pieces(self) -> Iterator[Piece]:
        """The policy with what is proposed; a new one if there was none."""
        if self.source is None:
            yield "policy_name=learned policy_version=1.0.0"
            yield ""
            for operation in self._operations:
                yield f"DEFAULT op={operation} action=DENY"
        else:
            for number, line in enumerate(self.source.text.rstrip("\n").split("\n"), 1):
                yield from self._before.get(number, ())
                if number not in self._replaced:
                    yield line
        if self._behind:
            yield ""
            yield from self._behind


def _key(word: str) -> str:
    """The key of a ``key=value`` word, whatever its operator."""
    return word.replace("<", "=").replace(">", "=").partition("=")[0]
