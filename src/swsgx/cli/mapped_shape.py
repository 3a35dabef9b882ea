"""What an answer about mappings must look like before it is shown.

Whoever is asked may be another user's process, when root asks, and need not be the supervisor that it says it is. So
members must have the types that docs/mappings.md says they have, and in a terminal and on a page all text becomes one
line of printable characters. Members that are not known are let through, and not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from swsgx.cli.errors import one_line

__all__ = ["MalformedError", "checked", "printable"]


class MalformedError(Exception):
    """An answer is not what it should be; the text says where."""


class _Number:
    """Not negative, and of 64 bits at most."""


class _Optional:
    """A member that may be missing."""

    def __init__(self, shape: object) -> None:
        self.shape = shape


_N, _NO = _Number, None
_PROT = re.compile("[r-][w-][x-]")
_HEX = re.compile("(?:[0-9a-f]{2})*")
_WORDS = [str]
_SUBJECT = {"pid": _N, "uid": _N, "exe": str, "comm": str}
_ALLOWED = [{"module": str, "rules": _WORDS, "overruled": (str, _NO)}]
_APPROVAL = {"subject": (_SUBJECT, _NO), "allowed": _ALLOWED}
_SOURCE = {
    "class": re.compile("[a-z]+"),
    "path": (str, _NO),
    "digest": (str, _NO),
    **dict.fromkeys(("deleted", "noexec", "writers", "unwatched"), bool),
}
_FILE = {**_SOURCE, "device": re.compile("[0-9]+:[0-9]+"), "inode": _N, "offset": _N}
_ORIGIN = (_FILE, {**_SOURCE, "device": _NO, "inode": _NO, "offset": _NO})
_ENTRY = {"number": _N, "template": str, "pcr": _N, "violation": bool}
_NO_PAGE = {"start": _N, "end": _N, "type": _NO}
_PLAIN = {
    "start": _N,
    "end": _N,
    "type": re.compile("[a-z]+"),
    "ceiling": _PROT,
    "asked": bool,
    "measured": _Optional(()),
    "origin": _Optional(()),
}
_RUN = {
    **_PLAIN,
    **dict.fromkeys(("measured", "ever_w", "ever_x", "augmented"), bool),
    "obligations": _WORDS,
    "origin": (*_ORIGIN, _NO),
    "admitted": (_APPROVAL, _NO),
    "used": _WORDS,
    "entry": (_ENTRY, _NO),
}
_MAPPING = {
    "start": _N,
    "end": _N,
    "prot": _PROT,
    "enclave": _N,
    "accessible": bool,
    "judged": ({**_APPROVAL, "current": bool, "withdrawn": (str, _NO)}, _NO),
    "runs": [(_NO_PAGE, _PLAIN, _RUN)],
}
_ENCLAVE = {
    "number": _N,
    "base": _N,
    "size": _N,
    **dict.fromkeys(("initialised", "debug", "asked"), bool),
    "label": (str, _NO),
    "mrenclave": (_HEX, _NO),
    "mrsigner": (_HEX, _NO),
    "isvprodid": (_N, _NO),
    "isvsvn": (_N, _NO),
    "grants": _WORDS,
    "tolerated": _WORDS,
    "init": (_APPROVAL, _NO),
    "sigstruct": (*_ORIGIN, _NO),
    "entry": (_ENTRY, _NO),
}
_ANSWER = {
    "program": _WORDS,
    "mappings": (
        {
            "all": bool,
            "security": ({"modules": _WORDS, "mode": str, "permissive": _WORDS}, _NO),
            "enclaves": [_ENCLAVE],
            "processes": [{"pid": _N, "name": str, "mappings": [_MAPPING]}],
            "left_off": _N,
        },
        _NO,
    ),
}


def checked(told: dict[str, Any]) -> dict[str, Any]:
    """The answer as it is.

    Raises:
        MalformedError: it is not what it should be.
    """
    if not _is(told, _ANSWER):
        raise MalformedError("its mappings are not told as they should be")
    found = told["mappings"]
    if found is not None:
        ranges = [one for process in found["processes"] for one in process["mappings"]]
        ranges += [run for one in ranges for run in one["runs"]]
        if not all(one["start"] < one["end"] for one in ranges):
            raise MalformedError("a range ends before it begins")
    return told


def printable(value: Any) -> Any:
    """A copy in which all text can be shown."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list):
        return [printable(one) for one in value]
    return {name: printable(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _is(value: object, shape: object) -> bool:
    if shape is None:
        return value is None
    if shape is _Number:
        return type(value) is int and 0 <= value < 1 << 64
    if isinstance(shape, type):
        return type(value) is shape
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    if isinstance(shape, tuple):
        return any(_is(value, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(_is(one, shape[0]) for one in value)
    if isinstance(shape, dict) and isinstance(value, dict):
        return all(_has(value, name, one) for name, one in shape.items())
    return False


def _has(value: Mapping[str, object], name: str, shape: object) -> bool:
    if isinstance(shape, _Optional):
        return name not in value or _is(value[name], shape.shape)
    return name in value and _is(value[name], shape)
