"""The syntax of type enforcement: a subset of SELinux's ``.te`` files, with the contexts of subjects and files inline.

::

    policy_module(acme, 1.0)
    attribute code; type builder_t; type acme_code_t, code;
    subjcon exe "/opt/acme/bin/builder" builder_t
    filecon "/opt/acme/lib/.*[.]signed[.]so" acme_code_t
    allow builder_t code : enclave { load execute };
    neverallow * self : enclave mapwx;

A statement ends with a semicolon; ``policy_module``, ``subjcon`` and ``filecon`` stand on one line and need none.
Comments go from ``#`` to the end of the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from swsgx.lsm.policy.errors import Problem, Problems
from swsgx.lsm.policy.shapes import Grammar, Statement, Words
from swsgx.lsm.policy.source import Source, Word, word

__all__ = [
    "ACCESS",
    "KEYWORDS",
    "Access",
    "Declare",
    "FileContext",
    "Module",
    "Names",
    "Permissive",
    "SubjectContext",
    "Transition",
    "TypeAttribute",
    "parse_te",
    "print_te",
]

#: What an access rule may begin with.
ACCESS = ("allow", "auditallow", "dontaudit", "neverallow")
#: Statements that a line holds.
_OF_ONE_LINE = frozenset({"policy_module", "subjcon", "filecon"})
_STARTS = _OF_ONE_LINE | {"type", "attribute", "typeattribute", "type_transition", "permissive", *ACCESS}
#: Words that cannot be names.
KEYWORDS = _STARTS | {"self"}

_GRAMMAR = (
    r"""
statement: module | declare | typeattribute | access | transition | permissive | subject | file

module: _POLICY_MODULE "(" NAME "," (NAME | NUMBER) ")" [";"]
declare: TYPE NAME ("," NAME)* ";"
       | ATTRIBUTE NAME ";"
typeattribute: _TYPEATTRIBUTE NAME NAME ("," NAME)* ";"
access: ACCESS names names ":" names names ";"
transition: _TYPE_TRANSITION names names ":" NAME NAME ";"
permissive: _PERMISSIVE NAME ";"
subject: _SUBJCON NAME STRING NAME [";"]
       | _SUBJCON NAME NUMBER NAME [";"]
file: _FILECON STRING NAME [";"]

names: item
     | "{" item+ "}"
     | COMPLEMENT item
     | COMPLEMENT "{" item+ "}"
item: NAME | SELF | STAR | MINUS NAME

STAR: "*"
MINUS: "-"
COMPLEMENT: "~"
NAME: /[A-Za-z_][A-Za-z0-9_.]*/
NUMBER: /[0-9]+(\.[0-9]+)*/
STRING: /"[^"\n]*"/
IGNORED: /[ \t\r\n\f]+|#[^\n]*/
%ignore IGNORED
"""
    # A word of the language ends where a name would: ``typea`` is a name.
    + "".join(
        f"{terminal}.2: /({words})(?![A-Za-z0-9_.])/\n"
        for terminal, words in {
            "TYPE": "type",
            "ATTRIBUTE": "attribute",
            "ACCESS": "|".join(ACCESS),
            "SELF": "self",
            **{f"_{word.upper()}": word for word in sorted(_STARTS - {"type", "attribute", *ACCESS})},
        }.items()
    )
)
_CALLED = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": 'a "string"',
    "TYPE": "type",
    "ATTRIBUTE": "attribute",
    "ACCESS": "allow, auditallow, dontaudit, neverallow",
    "SELF": "self",
    "STAR": "'*'",
    "MINUS": "'-'",
    "COMPLEMENT": "'~'",
    "SEMICOLON": "';'",
    "COLON": "':'",
    "COMMA": "','",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "LPAR": "'('",
    "RPAR": "')'",
    "$END": "the end",
    **{f"_{word.upper()}": word for word in _STARTS - {"type", "attribute", *ACCESS}},
}
_WORD = re.compile(
    r"[ \t\r\f]*(?:#[^\n]*)?(?:"
    r"(?P<NAME>[A-Za-z_][A-Za-z0-9_.]*)|(?P<SIGN>[{}();:,*~-])|(?P<NEWLINE>\n)"
    r'|(?P<NUMBER>[0-9]+(?:\.[0-9]+)*)|(?P<STRING>"[^"\n]*")|(?P<UNKNOWN>[^ \t\r\f#\n]))'
)


class Names(NamedTuple):
    """A set of types, attributes or permissions, as written: ``{ a b -c }``, ``~{ a }``, ``*``, ``self``.

    Attributes:
        included: names, ``*`` and ``self``.
        excluded: names with a ``-``.
        complement: all that the set does not have is meant.
    """

    included: tuple[Word, ...]
    excluded: tuple[Word, ...] = ()
    complement: bool = False

    @property
    def at(self) -> int:
        """Where the first name stands."""
        return (self.included or self.excluded)[0].at

    def __str__(self) -> str:
        names = [*self.included, *(f"-{name}" for name in self.excluded)]
        text = names[0] if len(names) == 1 and not self.excluded else f"{{ {' '.join(names)} }}"
        return f"~{text}" if self.complement else text


@dataclass(frozen=True, slots=True)
class Module:
    """``policy_module(NAME, VERSION)``."""

    name: Word
    version: Word

    def __str__(self) -> str:
        return f"policy_module({self.name}, {self.version})"


@dataclass(frozen=True, slots=True)
class Declare:
    """``type NAME, ATTRIBUTE ...;`` or ``attribute NAME;``."""

    kind: Word
    name: Word
    attributes: tuple[Word, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {', '.join((self.name, *self.attributes))};"


@dataclass(frozen=True, slots=True)
class TypeAttribute:
    """``typeattribute TYPE ATTRIBUTE, ...;``."""

    name: Word
    attributes: tuple[Word, ...]

    def __str__(self) -> str:
        return f"typeattribute {self.name} {', '.join(self.attributes)};"


@dataclass(frozen=True, slots=True)
class Access:
    """``allow SOURCE TARGET : CLASS PERMISSIONS;`` and its like; ``kind`` is one of :data:`ACCESS`."""

    kind: Word
    source: Names
    target: Names
    classes: Names
    permissions: Names

    def __str__(self) -> str:
        return f"{self.kind} {self.source} {self.target} : {self.classes} {self.permissions};"


@dataclass(frozen=True, slots=True)
class Transition:
    """``type_transition SUBJECT SIGSTRUCT : enclave NEW;``."""

    source: Names
    target: Names
    of: Word
    new: Word

    def __str__(self) -> str:
        return f"type_transition {self.source} {self.target} : {self.of} {self.new};"


@dataclass(frozen=True, slots=True)
class Permissive:
    """``permissive TYPE;``: what this type is refused is allowed all the same, and told."""

    name: Word

    def __str__(self) -> str:
        return f"permissive {self.name};"


@dataclass(frozen=True, slots=True)
class SubjectContext:
    """``subjcon exe "PATTERN" TYPE``, or with ``label "LABEL"`` or ``uid N``; ``value`` without its quotes."""

    by: Word
    value: Word
    type: Word
    quoted: bool = True

    def __str__(self) -> str:
        value = f'"{self.value}"' if self.quoted else self.value
        return f"subjcon {self.by} {value} {self.type}"


@dataclass(frozen=True, slots=True)
class FileContext:
    """``filecon "PATTERN" TYPE``; the pattern without its quotes."""

    pattern: Word
    type: Word

    def __str__(self) -> str:
        return f'filecon "{self.pattern}" {self.type}'


class _Item(NamedTuple):
    name: Word
    excluded: bool = False


def _item(*words: Word) -> _Item:
    return _Item(words[-1], len(words) == 2)


def _names(*parts: Any) -> Names:
    complement = not isinstance(parts[0], _Item)
    items: tuple[_Item, ...] = parts[1:] if complement else parts
    return Names(
        tuple([item.name for item in items if not item.excluded]),
        tuple([item.name for item in items if item.excluded]),
        complement,
    )


def _unquoted(text: Word) -> Word:
    return word(text[1:-1], text.at + 1)


def _subject(by: Word, value: Word, type_: Word) -> SubjectContext:
    quoted = value.startswith('"')
    return SubjectContext(by, _unquoted(value) if quoted else value, type_, quoted)


_PARSER = Grammar(
    _GRAMMAR,
    {
        "statement": lambda statement: statement,
        "module": Module,
        "declare": lambda kind, name, *attributes: Declare(kind, name, attributes),
        "typeattribute": lambda name, *attributes: TypeAttribute(name, attributes),
        "access": Access,
        "transition": Transition,
        "permissive": Permissive,
        "subject": _subject,
        "file": lambda pattern, type_: FileContext(_unquoted(pattern), type_),
        "names": _names,
        "item": _item,
    },
    _CALLED,
    "names, numbers, strings in quotes on one line, and any of { } ( ) : ; , * ~ -",
)


def _statements(file: str) -> Iterator[Words]:
    """The words of each statement. One that lacks its semicolon ends where a line begins like a statement."""
    words = Words()
    fresh, of_one_line = True, False
    for match in _WORD.finditer(file):
        kind = match.lastgroup
        if kind == "NEWLINE":
            fresh = True
            if of_one_line:
                yield words
                words, of_one_line = Words(), False
            continue
        if kind is None:
            continue
        text, at = match[kind], match.start(kind)
        if kind == "NAME":
            if text in KEYWORDS:
                kind = text
                if fresh and words.kinds and text in _STARTS:
                    yield words
                    words = Words()
        elif kind == "SIGN":
            kind = text
        if not words.kinds:
            of_one_line = kind in _OF_ONE_LINE
        words.add(kind, text, at)
        fresh = False
        if kind == ";":
            yield words
            words, of_one_line = Words(), False
    if words.kinds:
        yield words


def parse_te(source: Source, problems: Problems) -> list[Statement]:
    """The statements of a file, in order; what cannot be parsed goes to ``problems`` and is left out."""
    parsed: list[Statement] = []
    for words in _statements(source.text):
        statement = _PARSER.parse(source, words)
        if isinstance(statement, Problem):
            problems.add(statement)
        else:
            parsed.append(statement)
    return parsed


def print_te(statements: list[Any]) -> str:
    """The text of statements; parsing it gives equal ones."""
    return "".join(f"{statement}\n" for statement in statements)


#: For type checkers and readers: what a statement's value can be.
Te = Module | Declare | TypeAttribute | Access | Transition | Permissive | SubjectContext | FileContext
