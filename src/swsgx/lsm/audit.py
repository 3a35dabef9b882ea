"""Audit records in the kernel's style: what was refused, to whom, over what, and by which rule.

One event is one or two lines with one stamp and one serial. A decision is an AVC line, as SELinux writes it, and an
ENCLAVE line with what only enclaves have; the loading of a policy and a change of mode are the kernel's
MAC_POLICY_LOAD and MAC_STATUS. Existing readers (ausearch, aureport) take them.

The field that the design note calls ``hook`` is written as ``op``: in the dictionary of audit fields ``hook`` is
netfilter's, and ``ausearch -i`` would show every hook as PREROUTING.

Source: Linux, kernel/audit.c (audit_log_start, audit_log_untrustedstring), security/selinux/avc.c and selinuxfs.c;
the audit field dictionary.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = [
    "NO_SOURCE",
    "NO_TRAITS",
    "TRAITS",
    "AuditError",
    "AuditLog",
    "Decision",
    "Event",
    "ModeChange",
    "PolicyLoad",
    "Record",
    "Source",
    "Traits",
    "untrusted",
]

#: auid and ses of a process that nobody logged in to, as the kernel prints it.
_UNSET = (1 << 32) - 1


class AuditError(Exception):
    """The audit log cannot be opened or written; the message names the file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The memory that an enclave's page was, or would have been, copied from.

    Attributes:
        kind: ``"file"``, ``"filemod"``, ``"memfd"``, ``"shm"``, ``"anon"``, ``"unknown"``; empty: none is concerned.
        path: of the file; empty if none.
        device, inode: of the file; the device as in st_dev. Written only where there is a path.
        offset: in the file, bytes; None if there is no file.
        deleted: the file has no name any more, and counts as none; written only if it is so.
        digest: of the whole file if ``kind`` is ``"file"``, else of the bytes that were copied, like ``sha256:...``;
            empty if nobody computed it.
    """

    kind: str = ""
    path: str = ""
    device: int = 0
    inode: int = 0
    offset: int | None = None
    deleted: bool = False
    digest: str = ""

    @property
    def named(self) -> bool:
        """Whether there is a file that a rule could be about, be it a modified copy of it."""
        return self.kind in ("file", "filemod") and bool(self.path) and not self.deleted


#: No source memory is concerned.
NO_SOURCE = Source()


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What identity rules ask of an enclave besides MRENCLAVE and MRSIGNER, by the names of their keys.

    None, and no digest, are not known, or not of this operation. A record has only what is known.

    Attributes:
        sigstruct: SHA-256 of all 1808 bytes of the SIGSTRUCT that initialises it.
        isvprodid, isvsvn: of its SIGSTRUCT.
        debug, provision_key: of its ATTRIBUTES.
        xfrm, miscselect: of its SECS.
        size: that it is to have, bytes.
        unmeasured_exec: code, or an entry point, was not measured.
        write: a debugger writes.
    """

    sigstruct: bytes = b""
    isvprodid: int | None = None
    isvsvn: int | None = None
    debug: bool | None = None
    provision_key: bool | None = None
    xfrm: int | None = None
    miscselect: int | None = None
    size: int | None = None
    unmeasured_exec: bool | None = None
    write: bool | None = None

    def fields(self) -> Iterator[str]:
        """Those that are known."""
        if self.sigstruct:
            yield f"sigstruct=sha256:{self.sigstruct.hex()}"
        for name in TRAITS:
            value = getattr(self, name)
            if value is not None:
                yield f"{name}={value:#x}" if name in _HEXED else f"{name}={int(value)}"


#: Traits that are numbers or flags, in the order in which they are written.
TRAITS = (
    "isvprodid",
    "isvsvn",
    "debug",
    "provision_key",
    "xfrm",
    "miscselect",
    "size",
    "unmeasured_exec",
    "write",
)
_HEXED = ("xfrm", "miscselect", "size")
#: Nothing is known.
NO_TRAITS = Traits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One verdict: a refusal, or the use of a right that policy wants to be told of.

    Attributes:
        hook: the hook point, like ``"load"``.
        permissions: those that were asked for and refused, or granted.
        pid, comm, exe: the subject: its process, the name and the path of its program.
        uid: its user; None: not known, and not written.
        enclave: its number; None before it has one.
        offset, length: the range, bytes from the enclave's base.
        maxprot: ceiling or protection: R 1, W 2, X 4.
        measured: whether the contents are in MRENCLAVE.
        source: where the contents come from.
        scontext, tcontext: labels of subject and target; empty if they have none.
        lsm: the module that said it.
        rule: which of its rules, like ``"te:14"``.
        mrenclave, mrsigner: 32 bytes, or empty while unknown.
        traits: what else is known of the enclave.
        denied: False: the right was granted, and policy has it recorded.
        permissive: it was refused, and allowed all the same.
        errno: what the program sees, like ``"EACCES"``; empty if it sees none.
        reason: a word for what is no rule's doing: ``"module-failure"``, ``"commit-failed"``: it could not be measured,
            ``"source-changed"``: a file was another one at INIT.
    """

    hook: str
    permissions: tuple[str, ...]
    pid: int
    comm: str
    exe: str = ""
    uid: int | None = None
    enclave: int | None = None
    offset: int | None = None
    length: int | None = None
    maxprot: int | None = None
    measured: bool | None = None
    source: Source = NO_SOURCE
    scontext: str = ""
    tcontext: str = ""
    lsm: str
    rule: str = ""
    mrenclave: bytes = b""
    mrsigner: bytes = b""
    traits: Traits = NO_TRAITS
    denied: bool = True
    permissive: bool = False
    errno: str = ""
    reason: str = ""

    def lines(self, stamp: str) -> Iterator[str]:
        """The AVC line, then the ENCLAVE line."""
        verdict = "denied " if self.denied else "granted"
        place = self.source
        file = bool(place.path)
        device = f"{os.major(place.device):02x}:{os.minor(place.device):02x}" if file else "?"
        fields = [
            f"pid={self.pid}",
            *([] if self.uid is None else [f"uid={self.uid}"]),
            f"comm={untrusted(self.comm)}",
            f"exe={untrusted(self.exe)}",
            f"op={self.hook}",
            f"enclave={_or_unknown(self.enclave)}",
            f"off={_hexed(self.offset)}",
            f"len={_hexed(self.length)}",
            f"maxprot={_protection(self.maxprot)}",
            f"measured={_or_unknown(None if self.measured is None else int(self.measured))}",
            f"src={place.kind or '?'}",
            f"path={untrusted(place.path)}",
            f"dev={device}",
            f"ino={place.inode if file else '?'}",
        ]
        if place.offset is not None:
            fields.append(f"fileoff={place.offset:#x}")
        if place.deleted:
            fields.append("deleted=1")
        if place.digest:
            fields.append(f"srcdigest={place.digest}")
        fields += [*_context("s", self.scontext), *_context("t", self.tcontext)]
        fields += ["tclass=enclave", f"permissive={int(self.permissive)}"]
        asked = " ".join(self.permissions)
        yield f"type=AVC {stamp}: avc:  {verdict} {{ {asked} }} for  {' '.join(fields)}"
        facts = [
            f"lsm={self.lsm}",
            f"rule={untrusted(self.rule)}",
            f"mrenclave={self.mrenclave.hex() or '?'}",
            f"mrsigner={self.mrsigner.hex() or '?'}",
            *self.traits.fields(),
            f"res={'deny' if self.denied and not self.permissive else 'allow'}",
        ]
        if self.reason:
            facts.append(f"reason={untrusted(self.reason)}")
        # Last, and always there, so that a line that is cut off misses something.
        facts.append(f"errno={self.errno or '?'}")
        yield f"type=ENCLAVE {stamp}: {' '.join(facts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoad:
    """A policy was loaded, or could not be.

    Attributes:
        lsm: whose policy.
        name: of the policy, as it calls itself.
        version: likewise; empty if it has none.
        digest: of its text, like ``sha256:...``.
        loaded: False: it was refused, and the old one stays.
        auid, ses: who had it loaded.
    """

    lsm: str
    name: str = ""
    version: str = ""
    digest: str = ""
    loaded: bool = True
    auid: int = _UNSET
    ses: int = _UNSET

    def lines(self, stamp: str) -> Iterator[str]:
        """One MAC_POLICY_LOAD line."""
        yield (
            f"type=MAC_POLICY_LOAD {stamp}: policy_name={untrusted(self.name)} "
            f"policy_version={untrusted(self.version)} policy_digest={self.digest or '?'} "
            f"auid={self.auid} ses={self.ses} lsm={self.lsm} res={int(self.loaded)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChange:
    """Enforcing became permissive, or the other way round.

    Attributes:
        lsm: which module's mode.
        enforcing, was: the new mode and the old one.
        auid, ses: who changed it.
    """

    lsm: str
    enforcing: bool
    was: bool
    auid: int = _UNSET
    ses: int = _UNSET

    def lines(self, stamp: str) -> Iterator[str]:
        """One MAC_STATUS line."""
        yield (
            f"type=MAC_STATUS {stamp}: enforcing={int(self.enforcing)} old_enforcing={int(self.was)} "
            f"auid={self.auid} ses={self.ses} enabled=1 old-enabled=1 lsm={self.lsm} res=1"
        )


#: What can be written and read back.
Record = Decision | PolicyLoad | ModeChange


@dataclass(frozen=True, slots=True)
class Event:
    """A record, when it was written, and its number.

    Attributes:
        serial: from 1 upwards within a run, without gaps.
        milliseconds: since 1970.
        record: what it says.
    """

    serial: int
    milliseconds: int
    record: Record

    def text(self) -> str:
        """The event's lines, each with its line end."""
        seconds, thousandths = divmod(self.milliseconds, 1000)
        stamp = f"msg=audit({seconds}.{thousandths:03}:{self.serial})"
        return "".join(f"{line}\n" for line in self.record.lines(stamp))


def untrusted(text: str) -> str:
    """A string that others chose, by the kernel's rule: quoted, or in hexadecimal if it has a quote, a space, a
    control, or a byte above 0x7e; ``?`` if there is none.
    """
    if not text:
        return "?"
    raw = os.fsencode(text)
    if any(byte == 0x22 or not 0x21 <= byte <= 0x7E for byte in raw):
        return raw.hex().upper()
    return f'"{text}"'


def _context(which: str, label: str) -> list[str]:
    """The fields of one label. A label that is none by its form goes the kernel's way, into srawcon or trawcon."""
    plain = all(c.isascii() and (c.isalnum() or c in "_:.,-") for c in label)
    if plain:
        return [f"{which}context={label or '?'}"]
    return [f"{which}context=?", f"{which}rawcon={untrusted(label)}"]


def _or_unknown(number: int | None) -> str:
    return "?" if number is None else str(number)


def _hexed(number: int | None) -> str:
    return "?" if number is None else f"{number:#x}"


def _protection(bits: int | None) -> str:
    if bits is None:
        return "?"
    return "".join(letter if bits & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4)))


@dataclass
class AuditLog:
    """A file to which events are appended, each by one write.

    A serial is spent even when the write fails: the gap is what tells a reader that an event was lost.

    Args:
        path: created if missing, readable by its owner only; ``/dev/stderr`` and pipes will do.
        clock: nanoseconds since 1970.

    Raises:
        AuditError: it cannot be opened.
    """

    path: Path
    clock: Callable[[], int] = time.time_ns
    _fd: int = field(init=False, repr=False)
    _serial: int = field(default=0, init=False)
    _torn: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise AuditError(
                f"{self.path}: the audit log cannot be opened: {error.strerror}; name another file"
            ) from None

    def write(self, record: Record) -> Event:
        """Append one event.

        Returns: the event as it was written.

        Raises:
            AuditError: it was not written, or not whole. Whoever must not go on unaudited stops here.
        """
        with self._lock:
            self._serial += 1
            event = Event(self._serial, self.clock() // 1_000_000, record)
            # After a torn write, the first line end closes the damaged line, so that only that one is lost.
            data = (b"\n" if self._torn else b"") + event.text().encode("ascii", "backslashreplace")
            try:
                written = os.write(self._fd, data)
            except OSError as error:
                raise AuditError(f"{self.path}: event {event.serial} is lost: {error.strerror}") from None
            self._torn = written != len(data)
            if self._torn:
                raise AuditError(
                    f"{self.path}: event {event.serial} is damaged: {written} of {len(data)} bytes were written; "
                    "is the disk full?"
                )
        return event

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
