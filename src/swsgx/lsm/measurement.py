"""The measurement list: what ran inside enclaves, in IMA's layouts, bound to PCRs.

Templates of ours: ``encl-load`` (code was copied into an enclave), ``encl-init`` (an enclave became one that can be
entered), ``encl-aug`` (a page that enclave code filled itself became executable).

IMA's readers do not agree about templates they do not know. evmctl replays them, and says that it left fields
unshown; keylime refuses the whole list. So an event is written, by default, in a template that both know, ``ima-buf``:
its name is ``encl-load:PATH``, its buffer is the data of our template, its digest the hash of that buffer, as IMA does
with any buffer. :attr:`Form.OWN` writes our templates as they are. Replay gives the PCRs in either form, with either
reader; :meth:`Entry.event` understands both.

Source: Linux, security/integrity/ima: ima_fs.c (ima_measurements_show, ima_ascii_measurements_show), ima_template.c,
ima_template_lib.c, ima_queue.c (ima_add_template_entry); Documentation/security/IMA-templates.rst.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Self

__all__ = [
    "DEFAULT_PCR",
    "SHA1_SIZE",
    "TEMPLATES",
    "Digest",
    "Entry",
    "Event",
    "FieldType",
    "FieldValue",
    "Form",
    "MeasurementError",
    "encl_aug",
    "encl_init",
    "encl_load",
    "file_entry",
    "pack_fields",
    "parse_fields",
]

#: IMA's.
DEFAULT_PCR = 10

#: Of a template hash.
SHA1_SIZE = 20


class MeasurementError(Exception):
    """A list is damaged, or cannot be read or written; the message says where."""


class FieldType(Enum):
    """How the bytes of a field are to be read, and how they are shown: IMA's formats."""

    DIGEST = "d-ng"
    NAME = "n-ng"
    NUMBER = "u64"
    BYTES = "buf"


class Form(Enum):
    """In which template an event is written."""

    IMA_BUF = "ima-buf"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest and its algorithm, as d-ng has it."""

    algorithm: str
    value: bytes

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value.hex()}"


FieldValue = Digest | str | int | bytes

_D, _N, _U, _B = FieldType.DIGEST, FieldType.NAME, FieldType.NUMBER, FieldType.BYTES

#: The fields of each template. IMA's own three are there for what a list may hold besides.
TEMPLATES: dict[str, tuple[tuple[str, FieldType], ...]] = {
    "encl-load": (
        *(("digest", _D), ("path", _N), ("enclave", _U), ("file_offset", _U), ("offset", _U), ("length", _U)),
        *(("ceiling", _U), ("measured", _U), ("copied", _D)),
    ),
    "encl-init": (
        *(("digest", _D), ("path", _N), ("enclave", _U), ("mrenclave", _B), ("mrsigner", _B)),
        *(("attributes", _B), ("prodid", _U), ("svn", _U), ("grants", _N)),
    ),
    "encl-aug": (
        *(("digest", _D), ("path", _N), ("enclave", _U), ("offset", _U), ("length", _U)),
        *(("mrenclave", _B), ("mrsigner", _B)),
    ),
    "ima-ng": (("digest", _D), ("path", _N)),
    "ima-sig": (("digest", _D), ("path", _N), ("signature", _B)),
    "ima-buf": (("digest", _D), ("path", _N), ("buffer", _B)),
}


def _shown(name: str) -> str:
    """A name as IMA stores it: spaces become underscores, so that an ASCII line has one way to be read. Controls
    and bytes that are no UTF-8 go the same way here, or a file's name could add a line to the list.
    """
    return "".join("_" if c.isspace() or not c.isprintable() else c for c in name)


def _pack_field(kind: FieldType, value: FieldValue) -> bytes:
    match kind, value:
        case FieldType.DIGEST, Digest():
            raw = value.algorithm.encode("ascii") + b":\0" + value.value
        case FieldType.NAME, str():
            raw = _shown(value).encode("utf-8") + b"\0"
        case FieldType.NUMBER, int() if 0 <= value < 1 << 64:
            raw = struct.pack("<Q", value)
        case FieldType.BYTES, bytes():
            raw = value
        case _:
            raise MeasurementError(f"{value!r} is no value of a field {kind.value}")
    return struct.pack("<I", len(raw)) + raw


def _parse_field(kind: FieldType, raw: bytes) -> FieldValue:
    match kind:
        case FieldType.DIGEST:
            name, separator, value = raw.partition(b":\0")
            if not separator or not name.isascii():
                raise MeasurementError("a digest has no algorithm")
            return Digest(name.decode("ascii"), value)
        case FieldType.NAME:
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                raise MeasurementError("a name is no UTF-8") from None
            if not text.endswith("\0") or _shown(text[:-1]) != text[:-1]:
                raise MeasurementError(
                    "a name does not end with its only zero byte, or holds a space or a control"
                )
            return text[:-1]
        case FieldType.NUMBER:
            if len(raw) != 8:
                raise MeasurementError(f"a number has 8 bytes, not {len(raw)}")
            return int.from_bytes(raw, "little")
        case FieldType.BYTES:
            return raw


def pack_fields(template: str, fields: Mapping[str, FieldValue]) -> bytes:
    """The data of a template: each field with its length before it.

    Raises:
        MeasurementError: a value does not fit its field.
    """
    return b"".join(_pack_field(kind, fields[name]) for name, kind in TEMPLATES[template])


def parse_fields(template: str, data: bytes) -> dict[str, FieldValue]:
    """The fields that a template's data hold.

    Raises:
        MeasurementError: the template is unknown, or the data are not these fields and nothing else.
    """
    if template not in TEMPLATES:
        raise MeasurementError(f"there is no template {template!r}; there are {', '.join(TEMPLATES)}")
    fields: dict[str, FieldValue] = {}
    at = 0
    for name, kind in TEMPLATES[template]:
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if len(data) < at + 4 or len(data) < end:
            raise MeasurementError(f"template {template}: field {name} is cut off")
        fields[name] = _parse_field(kind, data[at + 4 : end])
        at = end
    if at != len(data):
        raise MeasurementError(f"template {template}: {len(data) - at} bytes follow the last field")
    return fields


@dataclass(frozen=True)
class Event:
    """What happened, before it is written in some form.

    Attributes:
        template: one of :data:`TEMPLATES`.
        fields: a value for each of its fields.
    """

    template: str
    fields: Mapping[str, FieldValue]

    @property
    def path(self) -> str:
        """The name that every template has: of a file, or ``anon:`` and the like."""
        return str(self.fields["path"])

    def entry(self, form: Form = Form.IMA_BUF, pcr: int = DEFAULT_PCR, *, violation: bool = False) -> Entry:
        """The entry to be put into a list.

        Args:
            form: in which template.
            pcr: the register.
            violation: what is measured could change while it was: the entry's hash is all zero, and all ones are
                extended, so that no list without it gives the same PCR.
        """
        data = pack_fields(self.template, self.fields)
        if form is Form.OWN:
            return Entry.of(self.template, data, pcr, violation=violation)
        digest = Digest("sha256", hashlib.sha256(data).digest())
        wrapped: dict[str, FieldValue] = {
            "digest": digest,
            "path": f"{self.template}:{self.path}",
            "buffer": data,
        }
        return Entry.of("ima-buf", pack_fields("ima-buf", wrapped), pcr, violation=violation)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a list.

    Attributes:
        pcr: the register it is extended into.
        template_hash: SHA-1 of the data, or all zero for a violation.
        template: its name.
        data: its fields, each with its length before it.
    """

    pcr: int
    template_hash: bytes
    template: str
    data: bytes

    @classmethod
    def of(cls, template: str, data: bytes, pcr: int, *, violation: bool = False) -> Self:
        """An entry with the hash that belongs to it."""
        digest = bytes(SHA1_SIZE) if violation else hashlib.sha1(data, usedforsecurity=False).digest()
        return cls(pcr, digest, template, data)

    @property
    def violation(self) -> bool:
        """The entry says that something could not be measured reliably."""
        return not any(self.template_hash)

    def event(self) -> Event:
        """What the entry says; one of our templates inside ``ima-buf`` is taken out of it.

        Raises:
            MeasurementError: the template is unknown, the data are no such fields, or hashes are wrong.
        """
        if (
            not self.violation
            and self.template_hash != hashlib.sha1(self.data, usedforsecurity=False).digest()
        ):
            raise MeasurementError("the template hash is not that of the data")
        fields = parse_fields(self.template, self.data)
        if self.template != "ima-buf":
            return Event(self.template, fields)
        name, buffer = fields["path"], fields["buffer"]
        inner = str(name).partition(":")[0]
        if not inner.startswith("encl-") or not isinstance(buffer, bytes):
            return Event(self.template, fields)
        if fields["digest"] != Digest("sha256", hashlib.sha256(buffer).digest()):
            raise MeasurementError("the digest is not that of the buffer")
        event = Event(inner, parse_fields(inner, buffer))
        if name != f"{inner}:{event.path}":
            raise MeasurementError("the name outside the buffer is not the one inside")
        return event


# ---- events ---------------------------------------------------------------------------------------------------------


def encl_load(
    *,
    digest: Digest,
    path: str,
    enclave: int,
    file_offset: int,
    offset: int,
    length: int,
    ceiling: int,
    measured: bool,
    copied: Digest,
) -> Event:
    """Code was copied into an enclave.

    Args:
        digest: of the whole source file, or of the copied bytes if there is no file.
        path: of the file; empty if there is none.
        enclave: its number.
        file_offset: where in the file; 0 if there is none.
        offset, length: where in the enclave.
        ceiling: R 1, W 2, X 4.
        measured: the bytes are in MRENCLAVE.
        copied: digest of the copied bytes.
    """
    return Event(
        "encl-load",
        {
            "digest": digest,
            "path": _shown(path) or "anon:",
            "enclave": enclave,
            "file_offset": file_offset,
            "offset": offset,
            "length": length,
            "ceiling": ceiling,
            "measured": int(measured),
            "copied": copied,
        },
    )


def encl_init(
    *,
    digest: Digest,
    path: str,
    enclave: int,
    mrenclave: bytes,
    mrsigner: bytes,
    attributes: bytes,
    prodid: int,
    svn: int,
    grants: Iterable[str],
) -> Event:
    """An enclave was initialised.

    Args:
        digest: of the SIGSTRUCT's 1808 bytes.
        path: of the file they came from; empty if from none.
        enclave: its number.
        mrenclave, mrsigner: 32 bytes each.
        attributes: as in the SECS, 16 bytes.
        prodid, svn: ISVPRODID and ISVSVN.
        grants: what policy granted the enclave.
    """
    return Event(
        "encl-init",
        {
            "digest": digest,
            "path": _shown(path) or "anon:",
            "enclave": enclave,
            "mrenclave": mrenclave,
            "mrsigner": mrsigner,
            "attributes": attributes,
            "prodid": prodid,
            "svn": svn,
            "grants": _shown(",".join(sorted(grants))) or "-",
        },
    )


def encl_aug(*, enclave: int, offset: int, length: int, mrenclave: bytes, mrsigner: bytes) -> Event:
    """A page that enclave code filled became executable: nobody vouches for it, and the list says so.

    Args:
        enclave: its number.
        offset, length: where in it.
        mrenclave, mrsigner: whose code filled it.
    """
    return Event(
        "encl-aug",
        {
            # Nothing is read: the fields that every reader expects first hold the identity that is answerable.
            "digest": Digest("sha256", mrenclave),
            "path": "augmented:",
            "enclave": enclave,
            "offset": offset,
            "length": length,
            "mrenclave": mrenclave,
            "mrsigner": mrsigner,
        },
    )


def file_entry(
    digest: Digest, path: str, signature: bytes = b"", pcr: int = DEFAULT_PCR, *, violation: bool = False
) -> Entry:
    """A whole file, as IMA itself would measure it: a verifier's list of good files and its keys apply unchanged.

    Args:
        digest: of the file.
        path: of the file.
        signature: the value of its security.ima, if that is a signature.
        pcr: the register.
        violation: it can be written while it is used.
    """
    fields: dict[str, FieldValue] = {"digest": digest, "path": _shown(path), "signature": signature}
    return Entry.of("ima-sig", pack_fields("ima-sig", fields), pcr, violation=violation)
