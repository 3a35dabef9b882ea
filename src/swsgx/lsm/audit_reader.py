"""Reads audit records back: our own log, or what ausearch prints of it.

A system's log has other records too; those are passed over. A line that claims to be ours and is not whole is an
error with its place: :func:`read_events` stops there, :func:`sift_events` tells it and goes on with the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Never

from swsgx.lsm.audit import TRAITS, Decision, Event, ModeChange, PolicyLoad, Record, Source, Traits, untrusted

__all__ = ["AuditSyntaxError", "lost_serials", "read_events", "sift_events"]

#: A stamp of more digits is nobody's; Python refuses to read numbers of thousands of digits.
_HEADER = re.compile(
    r"type=([A-Z0-9_]{1,64}|UNKNOWN\[[0-9]{1,10}\]) msg=audit\(([0-9]{1,20})\.([0-9]{3}):([0-9]{1,20})\): "
)
_AVC = re.compile(r"avc:  (denied |granted) \{ ([a-z_]+(?: [a-z_]+)*) \} for  ")
_FIELD = re.compile(r'([a-z][a-z_-]*)=("[!#-~]*"|[!#-~]+)(?: |$)')
#: With the space after it: a class that is cut off is no other class.
_CLASS = re.compile(r" tclass=([a-z0-9_]+) ")
_OURS = frozenset({"AVC", "ENCLAVE", "MAC_POLICY_LOAD", "MAC_STATUS"})
_KINDS = ("file", "filemod", "memfd", "shm", "anon", "unknown")


class AuditSyntaxError(Exception):
    """A line is not a whole record.

    Attributes:
        file: as it was named to the reader.
        line, column: both from 1.
    """

    def __init__(self, file: str, line: int, column: int, problem: str) -> None:
        super().__init__(f"{file}:{line}:{column}: {problem}")
        self.file, self.line, self.column = file, line, column


@dataclass(frozen=True, slots=True)
class _Field:
    value: str
    column: int


class _Line:
    """One line's fields; each is taken once, and none may be left."""

    def __init__(self, file: str, number: int, text: str) -> None:
        self.file, self.row, self.text = file, number, text
        header = _HEADER.match(text)
        if header is None:
            raise self.wrong(1, "expected type=... msg=audit(SECONDS.MILLISECONDS:SERIAL):")
        self.kind = header[1]
        self.stamp = (int(header[2]) * 1000 + int(header[3]), int(header[4]))
        self.end = header.end()
        self.fields: dict[str, _Field] = {}

    def wrong(self, column: int, problem: str) -> AuditSyntaxError:
        return AuditSyntaxError(self.file, self.row, column, problem)

    def split(self) -> None:
        """Take the rest of the line apart."""
        while self.end < len(self.text):
            found = _FIELD.match(self.text, self.end)
            if found is None:
                raise self.wrong(self.end + 1, "expected NAME=VALUE")
            if found[1] in self.fields:
                raise self.wrong(self.end + 1, f"{found[1]}= stands here a second time")
            self.fields[found[1]] = _Field(found[2], found.start(2) + 1)
            self.end = found.end()

    def has(self, name: str) -> bool:
        return name in self.fields

    def take(self, name: str, pattern: str) -> str:
        """The value of a field that must be there and match; ``?`` is given as an empty string."""
        found = self.fields.pop(name, None)
        if found is None:
            raise self.wrong(len(self.text) + 1, f"{name}= is missing; is the line cut off?")
        if found.value == "?":
            return ""
        if re.fullmatch(pattern, found.value) is None:
            raise self.wrong(found.column, f"{found.value} is no value of {name}=")
        return found.value

    def string(self, name: str) -> str:
        """An untrusted string, out of its quotes or its hexadecimal."""
        column = self.fields[name].column if self.has(name) else 0
        value = self.take(name, r'"[!#-~]+"|(?:[0-9A-F]{2})+')
        if not value or value[0] == '"':
            return value[1:-1]
        text = os.fsdecode(bytes.fromhex(value))
        if untrusted(text) != value:
            raise self.wrong(column, f"{value} is in hexadecimal without need")
        return text

    def number(self, name: str) -> int | None:
        value = self.take(name, r"0x[0-9a-f]{1,16}|[0-9]{1,20}")
        return int(value, 0) if value.startswith("0x") else int(value) if value else None

    def whole(self, name: str) -> int:
        """A number that must be known."""
        column = self.fields[name].column if self.has(name) else 0
        value = self.number(name)
        if value is None:
            raise self.wrong(column, f"{name}= must be a number")
        return value

    def flag(self, name: str) -> bool:
        return self.take(name, "[01]") == "1"

    def context(self, which: str) -> str:
        label = self.take(f"{which}context", "[A-Za-z0-9_:.,-]+")
        return self.string(f"{which}rawcon") if self.has(f"{which}rawcon") else label

    def finish(self) -> None:
        for name, left in self.fields.items():
            raise self.wrong(left.column - len(name) - 1, f"{name}= is no field of a {self.kind} record")


def _device(text: str) -> int:
    major, _, minor = text.partition(":")
    return os.makedev(int(major, 16), int(minor, 16)) if text else 0


def _source(line: _Line) -> Source:
    kind = line.take("src", "|".join(_KINDS))
    path = line.string("path")
    device = line.take("dev", "[0-9a-f]{2,8}:[0-9a-f]{2,8}")
    inode = line.number("ino")
    offset = line.number("fileoff") if line.has("fileoff") else None
    deleted = line.flag("deleted") if line.has("deleted") else False
    digest = line.take("srcdigest", "[a-z0-9-]+:[0-9a-f]+") if line.has("srcdigest") else ""
    return Source(
        kind=kind,
        path=path,
        device=_device(device),
        inode=inode or 0,
        offset=offset,
        deleted=deleted,
        digest=digest,
    )


#: Traits that are yes or no.
_FLAGS = ("debug", "provision_key", "unmeasured_exec", "write")


def _traits(line: _Line) -> Traits:
    """Those that a record has; older ones have none."""
    known: dict[str, Any] = {}
    for name in TRAITS:
        if line.has(name):
            known[name] = line.flag(name) if name in _FLAGS else line.whole(name)
    digest = line.take("sigstruct", "sha256:[0-9a-f]{64}") if line.has("sigstruct") else ""
    return Traits(sigstruct=bytes.fromhex(digest.partition(":")[2]), **known)


def _decision(avc: _Line, enclave: _Line) -> Decision:
    opening = _AVC.match(avc.text, avc.end)
    if opening is None:
        raise avc.wrong(avc.end + 1, "expected avc:  denied  { PERMISSION ... } for")
    avc.end = opening.end()
    avc.split()
    enclave.split()
    maxprot = avc.take("maxprot", "[r-][w-][x-]")
    measured = avc.take("measured", "[01]")
    avc.take("tclass", "enclave")
    denied = opening[1] == "denied "
    permissive = avc.flag("permissive")
    result = enclave.fields.get("res")
    allowed = enclave.take("res", "deny|allow") != "deny"
    if allowed is (denied and not permissive):
        raise enclave.wrong(result.column if result else 1, "res= contradicts the AVC line")
    decision = Decision(
        hook=avc.take("op", "[a-z_]+"),
        permissions=tuple(opening[2].split()),
        pid=avc.whole("pid"),
        comm=avc.string("comm"),
        exe=avc.string("exe"),
        uid=avc.whole("uid") if avc.has("uid") else None,
        enclave=avc.number("enclave"),
        offset=avc.number("off"),
        length=avc.number("len"),
        maxprot=sum(1 << i for i, letter in enumerate(maxprot) if letter != "-") if maxprot else None,
        measured=measured == "1" if measured else None,
        source=_source(avc),
        scontext=avc.context("s"),
        tcontext=avc.context("t"),
        lsm=enclave.take("lsm", "[a-z_]+"),
        rule=enclave.string("rule"),
        mrenclave=bytes.fromhex(enclave.take("mrenclave", "[0-9a-f]{64}")),
        mrsigner=bytes.fromhex(enclave.take("mrsigner", "[0-9a-f]{64}")),
        traits=_traits(enclave),
        denied=denied,
        permissive=permissive,
        errno=enclave.take("errno", "E[A-Z0-9]+"),
        reason=enclave.string("reason") if enclave.has("reason") else "",
    )
    avc.finish()
    enclave.finish()
    return decision


def _policy_load(line: _Line) -> PolicyLoad:
    line.split()
    load = PolicyLoad(
        lsm=line.take("lsm", "[a-z_]+"),
        name=line.string("policy_name"),
        version=line.string("policy_version"),
        digest=line.take("policy_digest", "[a-z0-9-]+:[0-9a-f]+"),
        loaded=line.flag("res"),
        auid=line.whole("auid"),
        ses=line.whole("ses"),
    )
    line.finish()
    return load


def _mode_change(line: _Line) -> ModeChange:
    line.split()
    for constant in ("enabled", "old-enabled", "res"):
        line.take(constant, "1")
    change = ModeChange(
        lsm=line.take("lsm", "[a-z_]+"),
        enforcing=line.flag("enforcing"),
        was=line.flag("old_enforcing"),
        auid=line.whole("auid"),
        ses=line.whole("ses"),
    )
    line.finish()
    return change


_SINGLE: dict[str, Callable[[_Line], Record]] = {
    "MAC_POLICY_LOAD": _policy_load,
    "MAC_STATUS": _mode_change,
}


def _is_ours(line: _Line) -> bool:
    """SELinux's own records, of other classes and modules, are not."""
    tclass = _CLASS.search(line.text) if line.kind == "AVC" else None
    foreign = (tclass is not None and tclass[1] != "enclave") or (
        line.kind in _SINGLE and " lsm=selinux " in line.text
    )
    return line.kind in _OURS and not foreign


def _events(text: str, file: str, damaged: Callable[[AuditSyntaxError], object]) -> Iterator[Event]:
    """All whole events, each where its last line stands; ``damaged`` is told of all that is not whole."""
    waiting: dict[tuple[int, int], _Line] = {}
    for number, content in enumerate(text.split("\n"), 1):
        content = content.rstrip("\r ")
        # ausearch puts these between events.
        if not content or content == "----" or content.startswith("time->"):
            continue
        try:
            line = _Line(file, number, content)
            if not _is_ours(line):
                continue
            milliseconds, serial = line.stamp
            if line.kind in _SINGLE:
                yield Event(serial, milliseconds, _SINGLE[line.kind](line))
                continue
            other = waiting.pop(line.stamp, None)
            if other is None:
                waiting[line.stamp] = line
                continue
            if other.kind == line.kind:
                # The first stays: its other half may come yet.
                waiting[line.stamp] = other
                raise line.wrong(1, f"a second {line.kind} line has the serial {serial}")
            avc, enclave = (line, other) if line.kind == "AVC" else (other, line)
            yield Event(serial, milliseconds, _decision(avc, enclave))
        except AuditSyntaxError as error:
            damaged(error)
    for alone in waiting.values():
        missing = "ENCLAVE" if alone.kind == "AVC" else "AVC"
        damaged(alone.wrong(1, f"the {missing} line with the serial {alone.stamp[1]} is missing"))


def read_events(text: str, file: str = "-") -> list[Event]:
    """All events of a log, in its order.

    ausearch prints an event's lines in reverse: the two lines of a decision may come either way round.

    Args:
        text: the log.
        file: its name, for messages.

    Raises:
        AuditSyntaxError: a line of ours is damaged, or a decision has only one of its two lines.
    """

    def stop(error: AuditSyntaxError) -> Never:
        raise error

    return list(_events(text, file, stop))


def sift_events(text: str, file: str = "-") -> tuple[list[Event], list[AuditSyntaxError]]:
    """All whole events of a log, in its order, and what is wrong with the rest, in the order of lines.

    Args:
        text, file: as for :func:`read_events`.
    """
    errors: list[AuditSyntaxError] = []
    events = list(_events(text, file, errors.append))
    return events, sorted(errors, key=lambda error: (error.line, error.column))


def lost_serials(events: Iterable[Event]) -> list[int]:
    """Serials that a log should have and has not. A serial of 1 starts a new run; the log's first may be any."""
    lost: list[int] = []
    last: int | None = None
    for event in events:
        if last is not None and event.serial > last:
            lost += range(last + 1, event.serial)
        elif last is not None:
            lost += range(1, event.serial)
        last = event.serial
    return lost
