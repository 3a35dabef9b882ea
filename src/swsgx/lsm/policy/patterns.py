"""Patterns of paths: a small part of regular expressions, the part that SELinux's file contexts use.

A pattern is for the whole path, without ``^`` and ``$``. It has plain characters, ``.``, ``[...]``, a backslash before
a sign that is meant itself, groups ``(a|b)``, and ``* + ? {m} {m,n}`` behind any of these. What could take for ever on
a long path is refused when the policy is loaded: a choice inside a repetition, more than three open repetitions, and
more than 4096 ways through the choices.
"""

from __future__ import annotations

import re

__all__ = ["Pattern", "PatternError"]

_MAX_OPEN = 3
_MAX_DEPTH = 20
_MAX_SIZE = 4096
_MAX_COUNT = 255
_COUNTED = re.compile(r"\{(\d{1,9})(,(\d{0,9}))?\}")
_CLASS = re.compile(r"\[\^?\]?([^\]\[\\]*)\]")
#: What means something else in brackets, or will one day.
_DOUBLED = ("--", "&&", "~~", "||")
_MAX_WAYS = 4096
_SPECIAL = frozenset(".[]()|*+?{}^$\\")


class PatternError(Exception):
    """A pattern that is not one.

    Attributes:
        at: characters from its start to what is wrong.
        found, expected: what stands there, what would have been accepted.
    """

    def __init__(self, at: int, found: str, expected: str) -> None:
        super().__init__(at, found, expected)
        self.at = at
        self.found = found
        self.expected = expected


class _Reader:
    """Goes over a pattern once: is it one, and what is plain at its ends?"""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.open = 0
        self.ways = 1
        #: Something in brackets can still be wrong, such as a range that goes down.
        self.doubtful = False
        #: The characters that are matched one for one; None for anything else.
        self.plain: list[str | None] = []

    def refuse(self, expected: str, found: str | None = None) -> PatternError:
        here = self.text[self.at : self.at + 1]
        return PatternError(self.at, found or (f"'{here}'" if here else "its end"), expected)

    def choose(self, ways: int, begun: int) -> None:
        """Note that a match can go ``ways`` ways here."""
        self.ways *= ways
        if self.ways > _MAX_WAYS:
            self.at = begun
            raise self.refuse(f"at most {_MAX_WAYS} ways through the choices", "more")

    def alternatives(self, depth: int) -> bool:
        """Up to a ``)`` or the end; returns whether there is a choice in it."""
        choice, begun, count = False, self.at, 1
        while self.at < len(self.text) and self.text[self.at] != ")":
            if self.text[self.at] == "|":
                self.at += 1
                count += 1
            else:
                choice |= self.piece(depth)
        if count > 1:
            # What is plain is so in one of them only.
            self.plain = [None]
            self.choose(count, begun)
        return choice or count > 1

    def piece(self, depth: int) -> bool:
        """One atom and what is behind it; returns whether there is a choice in it."""
        start, begun = len(self.plain), self.at
        choice = self.atom(depth)
        counts = self.quantifier()
        if counts is None:
            return choice
        least, most = counts
        if most > 1 and choice:
            self.at = begun
            raise self.refuse("no choice or repetition inside a repetition", "one")
        del self.plain[start:]
        self.plain.append(None)
        if most > _MAX_COUNT:
            self.open += 1
            if self.open > _MAX_OPEN:
                self.at = begun
                raise self.refuse(f"at most {_MAX_OPEN} of * and +", "one more")
        else:
            self.choose(most - least + 1, begun)
        return choice or most != least

    def atom(self, depth: int) -> bool:
        here = self.text[self.at]
        if here == "(":
            if depth >= _MAX_DEPTH:
                raise self.refuse(f"groups at most {_MAX_DEPTH} deep")
            if self.text[self.at + 1 : self.at + 2] == "?":
                self.at += 1
                raise self.refuse("a plain group")
            start = len(self.plain)
            self.at += 1
            saved = self.plain
            self.plain = []
            choice = self.alternatives(depth + 1)
            self.plain = [*saved[:start], None]
            if self.at >= len(self.text):
                raise self.refuse("')'")
            self.at += 1
            return choice
        if here == "[":
            found = _CLASS.match(self.text, self.at)
            if found is None:
                raise self.refuse("']' further on, and no '[' or backslash before it", "'['")
            if any(sign in found[1] for sign in _DOUBLED):
                raise self.refuse("no sign twice in brackets", f"'{found[0]}'")
            self.at = found.end()
            # ``[.]`` is the usual way to mean a dot.
            alone = len(found[0]) == 3 and found[1] not in ("", "^")
            self.plain.append(found[1] if alone else None)
            self.doubtful |= not alone
            return False
        if here == "\\":
            if self.at + 1 >= len(self.text) or self.text[self.at + 1].isalnum():
                self.at += 1
                raise self.refuse("a sign that is meant itself")
            self.plain.append(self.text[self.at + 1])
            self.at += 2
            return False
        if here != "." and here in _SPECIAL:
            raise self.refuse("a character, or a backslash before this one")
        self.plain.append(None if here == "." else here)
        self.at += 1
        return False

    def quantifier(self) -> tuple[int, int] | None:
        """The least and most repetitions that are asked for, None if there is no quantifier."""
        here = self.text[self.at : self.at + 1]
        if here and here in "*+?":
            self.at += 1
            least, most = int(here == "+"), 1 if here == "?" else _MAX_COUNT + 1
        elif here == "{":
            counted = _COUNTED.match(self.text, self.at)
            if counted is None:
                raise self.refuse("{m} or {m,n}")
            least = int(counted[1])
            most = least if counted[2] is None else int(counted[3]) if counted[3] else _MAX_COUNT + 1
            if least > _MAX_COUNT or (counted[3] and not least <= most <= _MAX_COUNT):
                raise self.refuse(f"counts in order, and at most {_MAX_COUNT}", counted[0])
            self.at = counted.end()
        else:
            return None
        follows = self.text[self.at : self.at + 1]
        if follows and follows in "*+?{":
            raise self.refuse("no repetition of a repetition")
        return least, most


class Pattern:
    """A pattern that was checked.

    Attributes:
        text: as written.
        literal: the one path it is for, if it has nothing special; else None.
        prefix, suffix: what each path it is for begins and ends with.
    """

    __slots__ = ("_match", "literal", "prefix", "suffix", "text")

    def __init__(self, text: str) -> None:
        """Check ``text``.

        Raises:
            PatternError: it is not a pattern of our kind.
        """
        if len(text) > _MAX_SIZE:
            raise PatternError(0, f"{len(text)} characters", f"at most {_MAX_SIZE}")
        reader = _Reader(text)
        reader.alternatives(0)
        if reader.at < len(text):
            raise reader.refuse("no ')' without '('")
        plain = reader.plain
        self.text = text
        self.literal = "".join(c for c in plain if c is not None) if None not in plain else None
        self.prefix = _run(plain)
        self.suffix = _run(plain[::-1])[::-1]
        self._match: re.Pattern[str] | None = None
        if reader.doubtful:
            self._compiled()

    def _compiled(self) -> re.Pattern[str]:
        if self._match is None:
            try:
                self._match = re.compile(self.text, re.DOTALL)
            except (re.error, OverflowError, RecursionError) as error:
                raise PatternError(getattr(error, "pos", None) or 0, f"'{self.text}'", str(error)) from None
        return self._match

    def matches(self, path: str) -> bool:
        """Whether the pattern is for this path."""
        if self.literal is not None:
            return path == self.literal
        # Compiling costs fifty times what a match does, so it is left until it is needed.
        return self._compiled().fullmatch(path) is not None


def _run(plain: list[str | None]) -> str:
    """The characters before the first that is not plain."""
    end = plain.index(None) if None in plain else len(plain)
    return "".join(c for c in plain[:end] if c is not None)
