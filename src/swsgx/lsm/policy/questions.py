"""Questions to a policy, from words: what ``swsgx policy explain`` and ``swsgx policy test`` ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from swsgx.lsm.policy import identity, integrity
from swsgx.lsm.policy.identity import IdentityFacts, IdentityStore
from swsgx.lsm.policy.integrity import IntegrityFacts, IntegrityStore
from swsgx.lsm.policy.ordered import Condition
from swsgx.lsm.policy.source import Rule
from swsgx.lsm.policy.te import PERMISSIONS, TeStore
from swsgx.lsm.policy.values import Key

__all__ = ["Answer", "FactError", "ask_identity", "ask_integrity", "ask_te", "facts_from"]


class FactError(ValueError):
    """A question that cannot be asked: an unknown type, permission or key, or a value that is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a policy says.

    Attributes:
        verdict: ``allow`` or ``deny``; ``ALLOW`` or ``DENY``; ``measure``, ``dont_measure`` and so on.
        yes: it is allowed, or is done.
        rule: the rule that decided; None: there is none, which is told by ``why``.
        matched: the facts that the rule asked for.
        why: what there is to say besides.
        grants, label: what the enclave gets from an identity rule.
    """

    verdict: str
    yes: bool
    rule: Rule | None = None
    matched: tuple[str, ...] = ()
    why: str = ""
    grants: tuple[str, ...] = ()
    label: str | None = None


def ask_te(te: TeStore, source: str, target: str, permission: str) -> Answer:
    """May ``source`` do this to ``target``?

    Raises:
        FactError: there is no such type or permission.
    """
    for name in (source, target):
        if name not in te.types:
            raise FactError(f"'{name}' is not a declared type")
    if permission not in PERMISSIONS:
        raise FactError(f"'{permission}' is not a permission, one of {', '.join(PERMISSIONS)}")
    decision = te.query(source, target, permission)
    if decision.rule is not None:
        return Answer("allow", True, decision.rule)
    others = te.allowed(source, target)
    why = f"no rule allows {source} {target} : enclave {permission}"
    why += f"; it has {' '.join(others)}" if others else "; it has no permission there at all"
    if decision.permissive:
        why += f"; {source} is permissive, so it is done all the same"
    return Answer("deny", False, why=why)


def ask_identity(store: IdentityStore, facts: IdentityFacts) -> Answer:
    """What the identity policy says."""
    rule = store.decide(facts)
    if rule is None:
        return Answer("ALLOW", True, why=f"the policy says nothing of {facts.op}, and leaves it to others")
    verdict = "ALLOW" if rule.allow else "DENY"
    why = "no rule matches, so the DEFAULT decides" if rule.default else ""
    matched = _matched(rule.conditions, facts)
    return Answer(verdict, rule.allow, rule.rule, matched, why, rule.grants, rule.label)


def ask_integrity(store: IntegrityStore, action: str, facts: IntegrityFacts) -> Answer:
    """Whether the integrity policy says to ``measure``, or to ``appraise``."""
    rule = store.decide(action, facts)
    if rule is None:
        return Answer(f"dont_{action}", False, why="no rule matches")
    return Answer(rule.action, rule.applies, rule.rule, _matched(rule.conditions, facts))


def _matched(conditions: Iterable[Condition], facts: object) -> tuple[str, ...]:
    def shown(value: object) -> str:
        if isinstance(value, bytes):
            return f"sha256:{value.hex()}"
        return str(value).upper() if isinstance(value, bool) else str(value)

    return tuple(f"{c.key}={shown(getattr(facts, c.key))}" for c in conditions)


def facts_from(words: Iterable[str], kind: str) -> Any:
    """The facts that ``KEY=VALUE`` words say, with keys and values as in a policy.

    Args:
        words: each a fact.
        kind: ``identity`` for :class:`IdentityFacts`, ``integrity`` for :class:`IntegrityFacts`.

    Raises:
        FactError: a key or a value is unknown, or the one that is needed is missing.
    """
    made: type[Any] = IdentityFacts if kind == "identity" else IntegrityFacts
    keys: Mapping[str, Key] = identity.KEYS if kind == "identity" else integrity.KEYS
    names = [field.name for field in fields(made)]
    values: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or key not in names:
            raise FactError(f"'{word}' is not KEY=VALUE with a key of {', '.join(names)}")
        if key in values:
            raise FactError(f"{key} is there twice")
        try:
            values[key] = keys[key].read(value)
        except ValueError as error:
            raise FactError(f"'{word}': expected {error}") from None
    if names[0] not in values:
        raise FactError(f"{names[0]}= is missing")
    return made(**values)
