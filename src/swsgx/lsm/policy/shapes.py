"""Parsing by a lark grammar, where statements of one shape are parsed once.

A policy has thousands of statements and a few dozen shapes: ``allow NAME NAME : NAME { NAME NAME } ;``. One regular
expression cuts a file into words, which is quick; the words' kinds are the statement's shape; the grammar is asked
about a shape only when it is new, and its tree, with numbers of words for leaves, serves for all later statements of
that shape. That is exact as long as the grammar can tell words apart by their kinds alone. Measured on 10,000 rules:
lark by itself takes three times as long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from swsgx.lsm.policy.errors import Problem
from swsgx.lsm.policy.source import Source, Word

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

__all__ = ["UNKNOWN", "Grammar", "Statement", "Words"]

#: The kind of what no grammar has.
UNKNOWN = "UNKNOWN"
#: Shapes that are kept; a file that was made to have more is only slower.
_MAX_SHAPES = 4096
#: A statement of more words than this is no statement that anybody wrote.
_MAX_WORDS = 100_000


class Words:
    """The words of one statement, before it is known what they are for. Lists side by side: there are many words.

    Attributes:
        kinds: of each word: a terminal of the grammar, or the word itself where the grammar names it.
        texts: the words.
        places: their offsets in the file.
    """

    __slots__ = ("kinds", "places", "texts")

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.texts: list[str] = []
        self.places: list[int] = []

    def add(self, kind: str, text: str, at: int) -> None:
        """Add a word."""
        self.kinds.append(kind)
        self.texts.append(text)
        self.places.append(at)


class Statement(NamedTuple):
    """What the grammar made of a statement: its value, and where it stands (offsets in the file)."""

    value: Any
    start: int
    end: int


#: A tree: what makes a node's value, and its children, of which those that are words are numbers.
_Recipe = tuple[Callable[..., Any], tuple[Any, ...]]


class Grammar:
    """A syntax: how to parse one statement.

    Args:
        rules: the lark grammar; its start rule is ``statement``.
        build: for each rule of the grammar, what makes its value of the values of its children.
        names: what a person calls each terminal of the grammar.
        words: what a statement may be made of, in words.
    """

    def __init__(
        self, rules: str, build: Mapping[str, Callable[..., Any]], names: Mapping[str, str], words: str
    ) -> None:
        self._rules = rules
        self._words = words
        self._build = build
        self._names = names
        self._shapes: dict[tuple[str, ...], _Recipe] = {}

    @cached_property
    def _lark(self) -> Lark:
        from lark import Lark

        return Lark(
            self._rules, parser="lalr", lexer="contextual", start="statement", maybe_placeholders=False
        )

    def parse(self, source: Source, words: Words) -> Statement | Problem:
        """The statement that ``words`` are, or what is wrong with it."""
        start, end = words.places[0], words.places[-1] + len(words.texts[-1])
        shape = tuple(words.kinds)
        recipe = self._shapes.get(shape)
        if recipe is None:
            known = self._recipe(source, words, start, end)
            if isinstance(known, Problem):
                return known
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            recipe = self._shapes[shape] = known
        return Statement(self._value(recipe, words.texts, words.places), start, end)

    def _value(self, recipe: _Recipe, texts: list[str], places: list[int]) -> Any:
        make, children = recipe
        values: list[Any] = []
        for child in children:
            if child.__class__ is int:
                leaf = Word(texts[child])
                leaf.at = places[child]
                values.append(leaf)
            else:
                values.append(self._value(child, texts, places))
        return make(*values)

    def _recipe(self, source: Source, words: Words, start: int, end: int) -> _Recipe | Problem:
        from lark.exceptions import UnexpectedInput

        if UNKNOWN in words.kinds:
            bad = words.kinds.index(UNKNOWN)
            return source.problem(
                words.places[bad],
                "syntax",
                found=_shown(words.texts[bad]),
                expected=self._words,
            )
        count = len(words.kinds)
        if count > _MAX_WORDS:
            expected = f"at most {_MAX_WORDS}"
            return source.problem(start, "a statement is short", found=f"{count} words", expected=expected)
        try:
            tree = self._lark.parse(source.text[start:end])
        except UnexpectedInput as error:
            return self._syntax_error(source, words, start, end, error)
        numbers = {place - start: number for number, place in enumerate(words.places)}
        try:
            return self._recipe_of(tree, numbers)
        except KeyError as error:
            # The grammar cuts a word in two that the scanner does not. Then kinds do not tell all: nothing is kept.
            return source.problem(
                start + error.args[0], "syntax", found="words run together", expected=self._words
            )

    def _recipe_of(self, tree: Tree[Token], numbers: Mapping[int, int]) -> _Recipe:
        """The tree with numbers of words for tokens. It is as deep as the grammar is, never as the input."""
        children: list[Any] = []
        for child in tree.children:
            # A token is a string, a tree is none.
            if isinstance(child, str):
                children.append(numbers[child.start_pos or 0])
            else:
                children.append(self._recipe_of(child, numbers))
        return self._build[str(tree.data)], tuple(children)

    def _syntax_error(self, source: Source, words: Words, start: int, end: int, error: Any) -> Problem:
        position = getattr(error, "pos_in_stream", None)
        if not isinstance(position, int) or getattr(getattr(error, "token", None), "type", "") == "$END":
            at, found = end, "the end of the statement"
        else:
            number = max(0, bisect_right(words.places, start + position) - 1)
            at, found = words.places[number], _shown(words.texts[number])
        wanted: set[str] = set()
        for attribute in ("accepts", "expected", "allowed"):
            wanted = wanted or {*(getattr(error, attribute, None) or ())}
        expected = sorted({self._names.get(name, name) for name in wanted - {"IGNORED"}})
        return source.problem(at, "syntax", found=found, expected=" or ".join(expected) or "nothing more")


def _shown(text: str) -> str:
    return f"'{text}'" if text.isprintable() else repr(text)
