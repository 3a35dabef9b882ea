"""From a path to its type, by thousands of patterns, in the time that a few take.

Which pattern wins is SELinux's order, made simple: a pattern without anything special wins over all others; of the
others the one whose plain beginning is longest; of equally long ones the last, in the order of reading.

Patterns are found by what is plain at their beginning and end: only those that can match are tried.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from swsgx.lsm.policy.patterns import Pattern

__all__ = ["PathIndex"]

_T = TypeVar("_T")
#: Paths that are remembered with their answers.
_REMEMBERED = 8192


class PathIndex(Generic[_T]):
    """Patterns and what each stands for."""

    def __init__(self) -> None:
        self._literal: dict[str, _T] = {}
        # By prefix, then by suffix: patterns in the order of reading.
        self._patterns: dict[str, dict[str, list[tuple[int, Pattern, _T]]]] = {}
        self._prefix_sizes: list[int] = []
        self._suffix_sizes: dict[str, list[int]] = {}
        self._answers: dict[str, _T | None] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pattern: Pattern, value: _T) -> None:
        """Let ``pattern`` stand for ``value``. One without anything special must not be there already."""
        self._count += 1
        self._answers.clear()
        if pattern.literal is not None:
            self._literal[pattern.literal] = value
            return
        bucket = self._patterns.setdefault(pattern.prefix, {})
        bucket.setdefault(pattern.suffix, []).append((self._count, pattern, value))
        if len(pattern.prefix) not in self._prefix_sizes:
            self._prefix_sizes = sorted({*self._prefix_sizes, len(pattern.prefix)}, reverse=True)
        sizes = self._suffix_sizes.setdefault(pattern.prefix, [])
        if len(pattern.suffix) not in sizes:
            sizes.append(len(pattern.suffix))

    def find(self, path: str) -> _T | None:
        """What ``path`` stands for, None if no pattern is for it."""
        if path in self._answers:
            return self._answers[path]
        if len(self._answers) >= _REMEMBERED:
            self._answers.clear()
        found = self._answers[path] = self._find(path)
        return found

    def _find(self, path: str) -> _T | None:
        if path in self._literal:
            return self._literal[path]
        for size in self._prefix_sizes:
            prefix = path[:size]
            bucket = self._patterns.get(prefix)
            if bucket is None or len(prefix) < size:
                continue
            candidates = [
                entry
                for length in self._suffix_sizes[prefix]
                if size + length <= len(path)
                for entry in bucket.get(path[len(path) - length :], ())
            ]
            for _, pattern, value in sorted(candidates, key=lambda entry: -entry[0]):
                if pattern.matches(path):
                    return value
        return None
