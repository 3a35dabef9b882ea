"""The syntax of identity and integrity files: a rule a line, made of ``key=value``.

::

    policy_name=acme policy_version=1.0.0
    DEFAULT op=ENCLAVE_INIT action=DENY
    op=ENCLAVE_INIT isvprodid=7 isvsvn>=3 debug=FALSE action=ALLOW

    measure func=ENCLAVE_LOAD mask=MAY_EXEC template=encl-load

A comment goes from a ``#`` that begins a word to the end of the line. A value with spaces stands in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from swsgx.lsm.policy.errors import Problem, Problems
from swsgx.lsm.policy.shapes import UNKNOWN, Grammar, Statement, Words
from swsgx.lsm.policy.source import Source, Word, word

__all__ = ["ACTIONS", "Line", "Pair", "Pairs", "parse_identity", "parse_integrity", "print_lines"]

#: What a line of an integrity policy begins with.
ACTIONS = ("measure", "dont_measure", "appraise", "dont_appraise")

_TERMINALS = r"""
pair: KEY OPERATOR VALUE
KEY: /[a-z_][a-z0-9_]*/
OPERATOR: />=|<=|=|<|>/
VALUE: /"[^"\n]*"|[^\s"]+/
IGNORED.-1: /[ \t\r\f]+|#[^\n]*/
%ignore IGNORED
"""
_IDENTITY = "statement: pair+ | DEFAULT pair+\nDEFAULT: /DEFAULT(?![A-Za-z0-9_])/\n" + _TERMINALS
# An action is no key: there is no operator behind it.
_INTEGRITY = f"statement: ACTION pair*\nACTION: /({'|'.join(ACTIONS)})(?![A-Za-z0-9_])/\n" + _TERMINALS
_CALLED = {
    "KEY": "KEY=VALUE",
    "OPERATOR": "'=', '>=', '<=', '<' or '>'",
    "VALUE": "a value",
    "DEFAULT": "DEFAULT",
    "ACTION": ", ".join(ACTIONS),
    "$END": "the end of the line",
}
_WORD = re.compile(
    r"[ \t\r\f]*(?:#[^\n]*)?(?:"
    r'(?P<KEY>[a-z_][a-z0-9_]*)(?P<OPERATOR>>=|<=|=|<|>)(?P<VALUE>"[^"\n]*"(?=\s|$)|[^\s"]+(?=\s|$))'
    r"|(?P<NEWLINE>\n)|(?P<WORD>[A-Za-z_][A-Za-z0-9_]*(?=[\s#]|$))|(?P<UNKNOWN>[^ \t\r\f\n#][^ \t\r\f\n]*))"
)


class Pair(NamedTuple):
    """``KEY=VALUE``, or with another operator."""

    key: Word
    operator: Word
    value: Word

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{self.value}"

    @property
    def plain(self) -> Word:
        """The value without quotes."""
        quoted = self.value.startswith('"')
        return word(self.value[1:-1], self.value.at + 1) if quoted else self.value


Pairs = tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its first word if that stands alone (an action, or DEFAULT), and its pairs."""

    first: Word | None
    pairs: Pairs

    def __str__(self) -> str:
        return " ".join(filter(None, [self.first, *map(str, self.pairs)]))


def _line(*parts: Word | Pair) -> Line:
    first = parts[0] if isinstance(parts[0], Word) else None
    return Line(first, tuple([part for part in parts if isinstance(part, Pair)]))


_PAIR = ("KEY", "OPERATOR", "VALUE")
_BUILD: dict[str, Callable[..., Any]] = {"statement": _line, "pair": Pair}
_FORM = "KEY=VALUE without spaces around the sign"
_IDENTITY_PARSER = Grammar(_IDENTITY, _BUILD, _CALLED, _FORM)
_INTEGRITY_PARSER = Grammar(_INTEGRITY, _BUILD, _CALLED, _FORM)


def _statements(text: str) -> Iterator[Words]:
    words = Words()
    for match in _WORD.finditer(text):
        kind = match.lastgroup
        if kind == "VALUE":
            key, operator, value = match.group("KEY", "OPERATOR", "VALUE")
            at = match.start("KEY")
            words.kinds += _PAIR
            words.texts += (key, operator, value)
            words.places += (at, at + len(key), match.start("VALUE"))
        elif kind == "NEWLINE":
            if words.kinds:
                yield words
                words = Words()
        elif kind is not None:
            alone = match[kind]
            words.add(UNKNOWN if kind == UNKNOWN else alone, alone, match.start(kind))
    if words.kinds:
        yield words


def _parse(grammar: Grammar, source: Source, problems: Problems) -> Iterator[Statement]:
    for words in _statements(source.text):
        statement = grammar.parse(source, words)
        if isinstance(statement, Problem):
            problems.add(statement)
        else:
            yield statement


def parse_identity(source: Source, problems: Problems) -> Iterator[Statement]:
    """The lines of an identity policy; what cannot be parsed goes to ``problems`` and is left out."""
    return _parse(_IDENTITY_PARSER, source, problems)


def parse_integrity(source: Source, problems: Problems) -> Iterator[Statement]:
    """The lines of an integrity policy; what cannot be parsed goes to ``problems`` and is left out."""
    return _parse(_INTEGRITY_PARSER, source, problems)


def print_lines(lines: list[Line]) -> str:
    """The text of lines; parsing it gives equal ones."""
    return "".join(f"{line}\n" for line in lines)
