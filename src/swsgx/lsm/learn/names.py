"""Types for what a log tells of: those that a record or the policy names, and new ones for what has none.

A new type is for exactly the programs or files that were seen: its contexts are whole paths, without ``*``.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from swsgx.lsm.audit import Decision
from swsgx.lsm.policy.patterns import Pattern, PatternError
from swsgx.lsm.policy.te import BUILTIN, UNLABELED, TeStore
from swsgx.lsm.policy.te_syntax import KEYWORDS

__all__ = ["Names", "exact_pattern", "told_type"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_SPECIAL = frozenset(".[]()|*+?{}^$\\")
#: Longest part of a new type's name that comes from a path.
_MAX_STEM = 32


def told_type(context: str) -> str:
    """The type that a context names, be it one itself or part of a label; empty if it cannot be a type."""
    parts = context.split(":")
    name = parts[2] if len(parts) > 2 else context
    return name if _NAME.fullmatch(name) and name not in KEYWORDS and len(name) < 256 else ""


@functools.lru_cache(maxsize=4096)
def exact_pattern(path: str) -> str | None:
    """A pattern for one path; None if none can be written. What cannot stand in a policy is met by its kind."""
    if not path.startswith("/"):
        return None
    made = []
    for c in path:
        if c == '"':
            made.append("[!-#]")
        elif not c.isprintable():
            made.append("[^ -~]")
        else:
            made.append(f"\\{c}" if c in _SPECIAL else c)
    text = "".join(made)
    try:
        return text if Pattern(text).matches(path) else None
    except PatternError:
        return None


@dataclass
class Names:
    """Finds types, and makes those that are missing.

    Args:
        te: the policy; None: there is none.
        typed: subjects and files have types: there is a policy, or the log shows that there was one.

    Attributes:
        new: types to declare, with a word on each.
        contexts: statements that give them to programs and files, in the order they are to be read, with their types.
        from_unlabeled: new types of what had none, with ``"subject"`` or ``"file"``: what unlabeled_t may is theirs.
        enclaves: types of enclaves that had none, by MRENCLAVE.
    """

    te: TeStore | None
    typed: bool = True
    new: dict[str, str] = field(default_factory=dict)
    contexts: dict[str, str] = field(default_factory=dict)
    from_unlabeled: dict[str, str] = field(default_factory=dict)
    enclaves: dict[bytes, str] = field(default_factory=dict)
    _made: dict[tuple[str, str], str] = field(default_factory=dict)

    def known(self, name: str) -> bool:
        """Whether the policy declares it."""
        return name in BUILTIN or (self.te is not None and name in self.te.types)

    def use(self, name: str, why: str) -> str:
        """A type that a record names; it is declared if nobody does."""
        if not self.known(name):
            self.new.setdefault(name, why)
        return name

    def make(self, key: tuple[str, str], stem: str, ending: str, why: str) -> str:
        """The new type for ``key``, called after a path's last part."""
        if key not in self._made:
            plain = re.sub(r"[^A-Za-z0-9_]+", "_", stem)[:_MAX_STEM].strip("_").lower()
            base = plain if plain[:1].isalpha() else f"x{plain}"
            name, number = f"{base}{ending}_t", 1
            while self.known(name) or name in self.new or (self.te is not None and name in self.te.sets):
                number += 1
                name = f"{base}{ending}{number}_t"
            self.new[name] = why
            self._made[key] = name
        return self._made[key]

    def subject(self, decision: Decision) -> str:
        """Who asked; unlabeled_t if a record tells nothing to know it by."""
        label, exe = decision.scontext, decision.exe
        named = told_type(label)
        if named and named != UNLABELED and self.known(named):
            return named
        if self.te is not None:
            found, _ = self.te.subject_type(label=label, exe=exe, uid=decision.uid)
            if found != UNLABELED:
                return found
        pattern = exact_pattern(exe)
        if named and named != UNLABELED:
            self.use(named, "a subject of the log")
        elif pattern is None:
            return UNLABELED
        else:
            named = self.make(("subject", pattern), PurePosixPath(exe).name, "", "a program without a type")
            self.from_unlabeled[named] = "subject"
        if ":" in label and label.isprintable() and '"' not in label:
            self.contexts.setdefault(f'subjcon label "{label}"', named)
        elif pattern is not None:
            self.contexts.setdefault(f'subjcon exe "{pattern}"', named)
        return named

    def file(self, decision: Decision) -> str:
        """The type of a source or SIGSTRUCT that has one; empty if it has none."""
        named = told_type(decision.tcontext)
        if named and named != UNLABELED and self.known(named):
            return named
        path = decision.source.path
        if self.te is not None and path:
            found, _ = self.te.file_type(path)
            if found != UNLABELED:
                return found
        if not named or named == UNLABELED:
            return ""
        pattern = exact_pattern(path)
        if pattern is not None and ":" not in decision.tcontext:
            self.contexts.setdefault(f'filecon "{pattern}"', named)
        return self.use(named, "a file of the log")

    def new_file(self, pattern: str, key: str, path: str, ending: str) -> str:
        """A type for a file that has none; files of one folder with one ``key`` share it."""
        folder = PurePosixPath(path).parent
        made = self.make((f"file{ending}", f"{folder}\n{key}"), folder.name, ending, "files without a type")
        self.from_unlabeled[made] = "file"
        self.contexts.setdefault(f'filecon "{pattern}"', made)
        return made

    def enclave(self, decision: Decision) -> str:
        """The type of an enclave; empty if it has none."""
        named = told_type(decision.tcontext)
        if named and named != UNLABELED:
            return self.use(named, "an enclave of the log")
        return self.enclaves.get(decision.mrenclave, "")
