"""The text of one policy file, and where things stand in it."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from swsgx.lsm.policy.errors import Place, PolicyError, Problem

__all__ = ["MAX_SIZE", "Rule", "Source", "Word", "word"]

#: Bytes of a policy file. 10,000 rules with two digests each have 2 MiB.
MAX_SIZE = 16 << 20
#: Characters of a thing that a message quotes.
_QUOTED = 60
#: A quoted string, a word, or (to be left out) a comment.
_WORDS = re.compile(r"""#[^\n]*|([^\s"#]*"[^"\n]*"[^\s"]*|[^\s#][^\s"]*)""")


class Word(str):
    """A word of a policy file that knows where it stands. Equal to the same word elsewhere.

    Attributes:
        at: characters from the start of the file.
    """

    __slots__ = ("at",)
    at: int


def word(text: str, at: int) -> Word:
    """The word ``text`` that stands at ``at``."""
    # Half a million of these are made for a large policy: without an __new__ of its own, making one is twice as quick.
    made = Word(text)
    made.at = at
    return made


class Source:
    """One policy file in memory.

    Attributes:
        name: as it was given, for messages.
        data: its bytes.
        text: the same as characters, lines ended by a line feed.
    """

    def __init__(self, name: str, data: bytes) -> None:
        """Take the file's bytes.

        Raises:
            PolicyError: it is too large, or not UTF-8 text.
        """
        self.name = name
        self.data = data
        if len(data) > MAX_SIZE:
            raise self._unreadable(0, "a policy is small", "more", f"at most {MAX_SIZE} bytes")
        nul = data.find(b"\0")
        if nul >= 0:
            raise self._unreadable(nul, "a policy is text", "a NUL byte", "characters")
        try:
            self.text = data.decode()
        except UnicodeDecodeError as error:
            raise self._unreadable(
                error.start, "a policy is UTF-8 text", f"byte {data[error.start]:#04x}", "UTF-8"
            ) from None

    @classmethod
    def read(cls, path: str) -> Source:
        """Read the file.

        Raises:
            OSError: it cannot be read.
            PolicyError: it is too large, or not UTF-8 text.
        """
        with Path(path).open("rb") as file:
            return cls(path, file.read(MAX_SIZE + 1))

    def _unreadable(self, at: int, rule: str, found: str, expected: str) -> PolicyError:
        start = self.data.rfind(b"\n", 0, at) + 1
        column = len(self.data[start:at].decode(errors="replace")) + 1
        place = Place(self.name, self.data.count(b"\n", 0, at) + 1, column)
        return PolicyError((Problem(place, rule, found, expected),))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the file's bytes."""
        return hashlib.sha256(self.data).digest()

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        at = self.text.find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = self.text.find("\n", at + 1)
        return starts

    def place(self, at: int) -> Place:
        """Line and column of the character at offset ``at``."""
        line = bisect_right(self._starts, at)
        return Place(self.name, line, at - self._starts[line - 1] + 1)

    def line(self, number: int) -> str:
        """The text of a line, counted from 1."""
        start = self._starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else None].rstrip("\r")

    def problem(
        self, at: int, rule: str, *, found: str, expected: str, other: Place | None = None
    ) -> Problem:
        """What is wrong at offset ``at``."""
        place = self.place(at)
        found = found if len(found) <= _QUOTED else f"{found[:_QUOTED]}..."
        return Problem(place, rule, found, expected, self.line(place.line), other)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A statement of a policy file, as what decides tells it.

    Attributes:
        source: the file.
        start, end: offsets of its first character, and after its last.
    """

    source: Source
    start: int
    end: int

    @property
    def place(self) -> Place:
        """File and line."""
        return self.source.place(self.start)

    @property
    def text(self) -> str:
        """The statement as written, on one line, without comments."""
        return " ".join(filter(None, _WORDS.findall(self.source.text[self.start : self.end])))

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"
