"""Rules of which the first that matches decides, found without trying all.

A rule is kept under the most telling thing that it asks for (its *anchor*: an MRENCLAVE, a signer with a product, a
type), so a question looks only at the rules that ask for what it has, and at those that ask for nothing telling.
The same index finds rules that can never be reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Condition", "Conditional", "Ordered"]


#: Each new rule is compared with so many earlier ones of each kind: loading must not take the square of the rules.
_COMPARED = 256


class Condition(NamedTuple):
    """Something that a rule asks for: a fact between two values, or with bits.

    Attributes:
        key: name of the fact.
        low, high: the least and greatest value; equal if there is only one. None: no bound.
        bits: instead, bits that the fact has.
    """

    key: str
    low: Any = None
    high: Any = None
    bits: int = 0

    def holds(self, fact: Any) -> bool:
        """Whether ``fact`` is so. What is not known (None) is not."""
        if fact is None:
            return False
        if self.bits:
            return bool(fact & self.bits == self.bits)
        return (self.low is None or bool(self.low <= fact)) and (self.high is None or bool(fact <= self.high))

    def implied_by(self, other: Condition) -> bool:
        """Whether this one holds wherever ``other``, of the same key, does."""
        if self.bits or other.bits:
            return self.bits & other.bits == self.bits
        low = self.low is None or (other.low is not None and other.low >= self.low)
        return bool(low and (self.high is None or (other.high is not None and other.high <= self.high)))

    @property
    def exact(self) -> bool:
        """Whether there is only one value."""
        return not self.bits and self.low is not None and self.low == self.high


class Conditional(Protocol):
    """A rule that has conditions, at most one for a key."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All of these must hold."""
        ...


_R = TypeVar("_R", bound=Conditional)


class Ordered(Generic[_R]):
    """Rules in their order.

    Args:
        anchors: keys, or groups of keys, that rules are kept under; the most telling first.
    """

    def __init__(self, anchors: Sequence[tuple[str, ...]]) -> None:
        self._anchors = tuple(anchors)
        self._rules: list[_R] = []
        self._kept: dict[tuple[str, ...], dict[tuple[Any, ...], list[int]]] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[_R]:
        return iter(self._rules)

    def add(self, rule: _R) -> _R | None:
        """Add ``rule`` behind all others; returns an earlier one that leaves nothing for it."""
        values = {c.key: c.low for c in rule.conditions if c.exact}
        earlier = self._shadowing(rule, values)
        number = len(self._rules)
        self._rules.append(rule)
        for keys in self._anchors:
            if all(key in values for key in keys):
                of_keys = self._kept.setdefault(keys, {})
                of_keys.setdefault(tuple(values[key] for key in keys), []).append(number)
                break
        else:
            self._free.append(number)
        return earlier

    def first(self, facts: object) -> _R | None:
        """The first rule whose conditions all hold for the attributes of ``facts``."""
        lists = [self._free]
        for keys, of_keys in self._kept.items():
            found = of_keys.get(tuple([getattr(facts, key) for key in keys]))
            if found:
                lists.append(found)
        best: int | None = None
        for numbers in lists:
            for number in numbers:
                if best is not None and number >= best:
                    break
                if all(c.holds(getattr(facts, c.key)) for c in self._rules[number].conditions):
                    best = number
                    break
        return None if best is None else self._rules[best]

    def _shadowing(self, rule: _R, values: dict[str, Any]) -> _R | None:
        asked = {c.key: c for c in rule.conditions}
        lists = [self._free]
        for keys, of_keys in self._kept.items():
            if all(key in values for key in keys):
                lists.append(of_keys.get(tuple(values[key] for key in keys), []))
        for numbers in lists:
            for number in numbers[:_COMPARED]:
                other = self._rules[number]
                if all(c.key in asked and c.implied_by(asked[c.key]) for c in other.conditions):
                    return other
        return None
