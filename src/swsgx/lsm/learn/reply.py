"""What a policy says to a record: the rule that decides, or that there is none, and the facts that it went by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from swsgx.lsm.audit import Decision
from swsgx.lsm.learn.identity import OPERATION_OF, facts_of, in_its_file, may_match, rule_of
from swsgx.lsm.learn.integrity import FUNCTION_OF
from swsgx.lsm.learn.names import told_type
from swsgx.lsm.learn.te import ON_DEVICE, ON_FILE, ON_ITSELF
from swsgx.lsm.policy.identity import GRANTS, OPERATIONS, IdentityFacts, IdentityRule, IdentityStore
from swsgx.lsm.policy.integrity import IntegrityFacts
from swsgx.lsm.policy.load import PolicySet
from swsgx.lsm.policy.ordered import Condition
from swsgx.lsm.policy.questions import Answer, ask_identity, ask_integrity, ask_te
from swsgx.lsm.policy.source import Rule
from swsgx.lsm.policy.te import CLASS, DEVICE, PERMISSIONS, UNLABELED, TeStore

__all__ = ["Reply", "replies"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One question of a record, and the answer.

    Attributes:
        question: as a policy would write it.
        answer: what the policy says now.
        allowed: it does not stand in the way.
        how: where the facts of the question come from.
    """

    question: str
    answer: Answer
    allowed: bool
    how: tuple[str, ...] = ()


def replies(decision: Decision, policy: PolicySet, enclaves: Mapping[bytes, str]) -> Iterator[Reply]:
    """What the policy says to all that a record was refused, or allowed.

    A policy of a kind that is not loaded is not asked, and nothing is said for modules without policy, nor of what no
    rule has refused.

    Args:
        decision: the record's.
        policy: that is asked.
        enclaves: by MRENCLAVE, types of enclaves that have none in their records.
    """
    if decision.reason:
        return
    if policy.te is not None and decision.lsm in ("te", "page_rules"):
        yield from _te(decision, policy.te, policy, enclaves)
    if policy.identity is not None:
        yield from _identity(decision, policy.identity)
    if policy.integrity is not None and decision.lsm == "integrity" and decision.hook in FUNCTION_OF:
        yield _integrity(decision, policy)


def _subject(decision: Decision, te: TeStore) -> tuple[str, str]:
    named = told_type(decision.scontext)
    if named in te.types and named != UNLABELED:
        return named, f"subject is {named}, by the record's scontext={decision.scontext}"
    found, rule = te.subject_type(label=decision.scontext, exe=decision.exe, uid=decision.uid)
    user = "" if decision.uid is None else f" uid={decision.uid}"
    return (
        found,
        f"subject is {found}, by {placed(rule) if rule else 'no subjcon'}; exe={decision.exe or '?'}{user}",
    )


def _file(decision: Decision, te: TeStore) -> tuple[str, str]:
    named = told_type(decision.tcontext)
    if named in te.types and named != UNLABELED:
        return named, f"target is {named}, by the record's tcontext={decision.tcontext}"
    found, rule = te.file_type(decision.source.path)
    return (
        found,
        f"target is {found}, by {placed(rule) if rule else 'no filecon'}; path={decision.source.path}",
    )


def _enclave(decision: Decision, te: TeStore, enclaves: Mapping[bytes, str]) -> tuple[str, str]:
    named = told_type(decision.tcontext)
    if named in te.types and named != UNLABELED:
        return named, f"enclave is {named}, by the record's tcontext={decision.tcontext}"
    other = enclaves.get(decision.mrenclave, "")
    if other in te.types:
        return other, f"enclave is {other}, as its MRENCLAVE is called"
    return UNLABELED, f"enclave is {UNLABELED}, since the record has tcontext={decision.tcontext or '?'}"


def _te(decision: Decision, te: TeStore, policy: PolicySet, enclaves: Mapping[bytes, str]) -> Iterator[Reply]:
    for permission in decision.permissions:
        if permission not in PERMISSIONS:
            yield Reply(permission, Answer("deny", False, why="this is no permission"), False)
            continue
        if permission in ON_ITSELF:
            source, told = _enclave(decision, te, enclaves)
            target, how = source, [told]
        elif decision.lsm == "page_rules":
            continue
        elif permission in ON_FILE and not _has_file(decision, permission):
            yield _without_file(decision, permission, policy)
            continue
        else:
            source, told = _subject(decision, te)
            if permission in ON_DEVICE:
                target, how = DEVICE, [told]
            elif permission in ON_FILE:
                target, other = _file(decision, te)
                how = [told, other]
            else:
                target, other = _enclave(decision, te, enclaves)
                how = [told, other]
        answer = ask_te(te, source, target, permission)
        yield Reply(f"{source} {target} : {CLASS} {permission}", answer, answer.yes, tuple(how))


def _has_file(decision: Decision, permission: str) -> bool:
    return in_its_file(decision) if permission == "init" else decision.source.named


def _without_file(decision: Decision, permission: str, policy: PolicySet) -> Reply:
    """A SIGSTRUCT in memory does for an enclave that an identity rule calls something."""
    why = "there is no file, and so nothing that a rule of type enforcement could be about"
    rule = None
    if permission == "init" and policy.identity is not None:
        rule = policy.identity.decide(facts_of(decision, "ENCLAVE_INIT", None))
        why += "; an identity rule with label= would do"
    yes = rule is not None and rule.allow and rule.label is not None
    answer = Answer(
        "allow" if yes else "deny", yes, rule.rule if rule and yes else None, why="" if yes else why
    )
    return Reply(f"{permission} from {decision.source.kind or 'unknown'} memory", answer, yes)


def _identity(decision: Decision, store: IdentityStore) -> Iterator[Reply]:
    wanted = [name for name in decision.permissions if name in GRANTS]
    lacking = decision.lsm == "page_rules" and bool(wanted) and bool(decision.mrenclave)
    operation = "ENCLAVE_INIT" if lacking else OPERATION_OF.get(decision.hook)
    if operation is None or not (lacking or decision.lsm == "identity"):
        return
    subject = told_type(decision.scontext) or None
    facts = facts_of(decision, operation, subject)
    answer = ask_identity(store, facts)
    asked = {condition.key for rule in store.rules for condition in rule.conditions}
    how = tuple(
        f"{key}={_shown(value)}"
        for key in OPERATIONS[operation]
        if key in ("mrenclave", "mrsigner", "subj_type") or key in asked
        if (value := getattr(facts, key)) is not None
    )
    maybe = [rule for rule in store.rules if may_match(rule, facts)]
    uncertain = [rule for rule in maybe if answer.rule is None or rule.rule is not answer.rule]
    told = rule_of(store, decision.rule)
    if told is not None and not lacking:
        how += (f"the record names {placed(told.rule)}",)
    elif uncertain:
        how += (f"whether {placed(uncertain[0].rule)} holds, the record does not tell",)
    question = f"op={operation}"
    if lacking:
        question += f" grant={','.join(wanted)}"
        answer = _granted(_that_let_in(maybe, facts), answer, wanted)
    yield Reply(question, answer, answer.yes, how)


def _shown(value: object) -> str:
    """A fact as a rule would ask for it."""
    if isinstance(value, bytes):
        return f"sha256:{value.hex()}"
    return str(value).upper() if isinstance(value, bool) else str(value)


def _that_let_in(maybe: list[IdentityRule], facts: IdentityFacts) -> list[IdentityRule]:
    """Rules of which one has let an enclave in: it is there, so none that denies has decided.

    Args:
        maybe: rules that nothing speaks against that is known, in their order.
        facts: what is known of the enclave.
    """
    tried: list[set[Condition]] = []
    found = []
    for rule in maybe:
        # Where this one holds, an earlier one does that asks for nothing else of what is not known.
        if not any(unknown <= {*rule.conditions} for unknown in tried):
            tried.append({c for c in rule.conditions if getattr(facts, c.key) is None})
            found += [rule] if rule.allow else []
    return found


def _granted(let_in: list[IdentityRule], answer: Answer, wanted: list[str]) -> Answer:
    """Whether an enclave was granted something, whichever of these rules let it in; ``answer`` if it was none."""
    given: list[tuple[Rule | None, tuple[str, ...]]] = [(rule.rule, rule.grants) for rule in let_in]
    given = given or [(answer.rule, answer.grants)]
    for place, grants in given:
        missing = [name for name in wanted if name not in grants]
        if missing:
            return Answer("DENY", False, place, answer.matched, f"it does not grant {', '.join(missing)}")
    place, grants = given[0]
    return Answer("ALLOW", True, place, answer.matched, answer.why if answer.yes else "", grants)


def _integrity(decision: Decision, policy: PolicySet) -> Reply:
    store, te = policy.integrity, policy.te
    function = FUNCTION_OF[decision.hook]
    how: tuple[str, ...] = (f"path={decision.source.path}",)
    subject = target = None
    if te is not None:
        subject, told = _subject(decision, te)
        target, other = _file(decision, te)
        how = told, other
    facts = IntegrityFacts(
        func=function, mask=decision.maxprot, obj_type=target, subj_type=subject, uid=decision.uid
    )
    if store is None:
        return Reply(f"appraise func={function}", Answer("dont_appraise", False), True, how)
    answer = ask_integrity(store, "appraise", facts)
    return Reply(f"appraise func={function}", answer, not answer.yes, how)


def placed(rule: Rule) -> str:
    """A rule with its file, line and column."""
    place = rule.place
    return f"{place.file}:{place.line}:{place.column}: {rule.text}"
