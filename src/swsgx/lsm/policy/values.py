"""Values of ``key=value`` rules: digests, numbers, words; read with all that can be wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from swsgx.lsm.policy.errors import Place, Problems
from swsgx.lsm.policy.lines_syntax import Line, Pair
from swsgx.lsm.policy.ordered import Condition
from swsgx.lsm.policy.source import Source, Word

__all__ = ["Key", "Reader", "bits", "digest", "flag", "known_as", "name", "number", "text"]

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class Key(NamedTuple):
    """What a key's value may be.

    Attributes:
        read: makes the value; ValueError says what was expected.
        operators: that may stand before it.
        masks: the value is bits that a fact must have.
    """

    read: Callable[[str], Any]
    operators: tuple[str, ...] = ("=",)
    masks: bool = False


def digest(value: str) -> bytes:
    """``sha256:`` and 64 hexadecimal digits."""
    found = _DIGEST.fullmatch(value)
    if found is None:
        raise ValueError("sha256: and 64 hexadecimal digits")
    return bytes.fromhex(found[1])


def number(size: int) -> Callable[[str], int]:
    """An unsigned number of ``size`` bits, decimal or hexadecimal."""

    def read(value: str) -> int:
        expected = f"a number below 2^{size}, decimal or 0x and hexadecimal"
        if not re.fullmatch(r"0[xX][0-9a-fA-F]{1,32}|[0-9]{1,32}", value):
            raise ValueError(expected)
        made = int(value, 16 if value[:2] in ("0x", "0X") else 10)
        if made >> size:
            raise ValueError(expected)
        return made

    return read


def flag(value: str) -> bool:
    """``TRUE`` or ``FALSE``."""
    if value not in ("TRUE", "FALSE"):
        raise ValueError("TRUE or FALSE")
    return value == "TRUE"


def name(value: str) -> str:
    """A name, as of a type."""
    if not _NAME.fullmatch(value):
        raise ValueError("a name")
    return value


def text(value: str) -> str:
    """Anything."""
    return value


def known_as(*values: str) -> Callable[[str], str]:
    """One of a few words."""

    def read(value: str) -> str:
        if value not in values:
            raise ValueError(" or ".join(values))
        return value

    return read


def bits(values: Mapping[str, int]) -> Callable[[str], int]:
    """Words with commas between them, each a bit."""

    def read(value: str) -> int:
        made = 0
        for word in value.split(","):
            if word not in values:
                raise ValueError(f"{', '.join(values)}, with commas between them")
            made |= values[word]
        return made

    return read


class Reader:
    """Reads the pairs of one file's lines.

    Args:
        source: the file.
        problems: gets what is wrong.
        keys: the keys there are.
    """

    def __init__(self, source: Source, problems: Problems, keys: Mapping[str, Key]) -> None:
        self.source = source
        self.problems = problems
        self.keys = keys

    def problem(
        self, at: Word, rule: str, expected: str, *, found: str | None = None, other: Place | None = None
    ) -> None:
        """Note that something is wrong with the word ``at``."""
        found = f"'{at}'" if found is None else found
        self.problems.add(self.source.problem(at.at, rule, found=found, expected=expected, other=other))

    def values(self, line: Line, allowed: Sequence[str]) -> dict[str, list[tuple[Pair, Any]]] | None:
        """Each pair's value, by key; None if something is wrong with any."""
        made: dict[str, list[tuple[Pair, Any]]] = {}
        good = True
        for pair in line.pairs:
            value = self._value(pair, allowed, made.get(pair.key, ()))
            if value is None:
                good = False
            else:
                made.setdefault(str(pair.key), []).append((pair, value))
        return made if good else None

    def _value(self, pair: Pair, allowed: Sequence[str], before: Sequence[tuple[Pair, Any]]) -> Any:
        key = self.keys.get(pair.key)
        if key is None:
            self.problem(pair.key, "a key is known", f"one of {', '.join(sorted(allowed))}")
        elif pair.key not in allowed:
            self.problem(pair.key, "a key makes sense in its rule", f"one of {', '.join(sorted(allowed))}")
        elif pair.operator not in key.operators:
            expected = " or ".join(f"'{operator}'" for operator in key.operators)
            self.problem(pair.operator, f"{pair.key} has its operators", expected)
        elif any(
            "=" in (pair.operator, other.operator) or pair.operator == other.operator for other, _ in before
        ):
            self.problem(
                pair.key, "a key is there once", "another key", other=self.source.place(before[0][0].key.at)
            )
        else:
            try:
                return key.read(pair.plain)
            except ValueError as error:
                self.problem(pair.value, f"{pair.key} has a value of its kind", str(error))
        return None

    def conditions(self, values: Mapping[str, list[tuple[Pair, Any]]]) -> tuple[Condition, ...] | None:
        """What the pairs ask for; None if that can never be."""
        made: list[Condition] = []
        for key, pairs in values.items():
            if self.keys[key].masks:
                made.append(Condition(key, bits=pairs[0][1]))
                continue
            low = high = None
            for pair, value in pairs:
                if pair.operator in ("=", ">=", ">"):
                    low = value + 1 if pair.operator == ">" else value
                if pair.operator in ("=", "<=", "<"):
                    high = value - 1 if pair.operator == "<" else value
            if high is not None and high < (low if low is not None else type(high)()):
                self.problem(pairs[0][0].key, "a rule can match", "bounds with something between them")
                return None
            made.append(Condition(key, low, high))
        return tuple(made)
