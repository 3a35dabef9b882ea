"""Whole measurement lists: IMA's two layouts, and the registers that a list leads to.

Source: Linux, security/integrity/ima: ima_fs.c (ima_measurements_show, ima_ascii_measurements_show), ima_queue.c
(ima_add_template_entry, ima_calc_field_array_hash for each bank), ima_init.c (the digest of a violation).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

from swsgx.lsm.measurement import (
    SHA1_SIZE,
    TEMPLATES,
    Digest,
    Entry,
    FieldType,
    FieldValue,
    MeasurementError,
    pack_fields,
    parse_fields,
)
from swsgx.lsm.pcr import ALGORITHMS, SoftwarePcrs

__all__ = ["bank_digests", "format_ascii", "format_binary", "parse_ascii", "parse_binary", "replay"]

_NAME_LIMIT = 255  # TCG_EVENT_NAME_LEN_MAX
_DATA_LIMIT = 1 << 24


def format_binary(entries: Iterable[Entry]) -> bytes:
    """Entries as in ``binary_runtime_measurements``, little-endian."""
    parts = []
    for entry in entries:
        name = entry.template.encode("ascii")
        parts.append(struct.pack("<I", entry.pcr) + entry.template_hash)
        parts.append(struct.pack("<I", len(name)) + name + struct.pack("<I", len(entry.data)) + entry.data)
    return b"".join(parts)


def parse_binary(data: bytes, file: str = "-") -> list[Entry]:
    """Entries of a binary list, known templates or not.

    Raises:
        MeasurementError: it is cut off or no list; the message has the offset in bytes.
    """
    entries: list[Entry] = []
    at = 0

    def take(size: int, what: str) -> bytes:
        nonlocal at
        if len(data) - at < size:
            raise MeasurementError(f"{file}: entry {len(entries) + 1}: {what} is cut off at byte {at}")
        at += size
        return data[at - size : at]

    while at < len(data):
        pcr = int.from_bytes(take(4, "the PCR's number"), "little")
        digest = take(SHA1_SIZE, "the template hash")
        length = int.from_bytes(take(4, "the length of the template's name"), "little")
        if not 0 < length <= _NAME_LIMIT:
            raise MeasurementError(f"{file}: entry {len(entries) + 1}: a template's name of {length} bytes")
        name = take(length, "the template's name")
        if not name.isascii() or not name.decode("ascii").isprintable() or b" " in name:
            raise MeasurementError(f"{file}: entry {len(entries) + 1}: {name!r} is no name of a template")
        size = int.from_bytes(take(4, "the length of the data"), "little")
        if size > _DATA_LIMIT:
            raise MeasurementError(f"{file}: entry {len(entries) + 1}: {size} bytes of data")
        entries.append(Entry(pcr, digest, name.decode("ascii"), take(size, "the data")))
    return entries


def _show_field(kind: FieldType, value: FieldValue) -> str:
    return value.hex() if kind is FieldType.BYTES and isinstance(value, bytes) else str(value)


def format_ascii(entries: Iterable[Entry]) -> str:
    """Entries as in ``ascii_runtime_measurements``.

    Raises:
        MeasurementError: a template is unknown.
    """
    lines = []
    for entry in entries:
        fields = parse_fields(entry.template, entry.data)
        shown = [_show_field(kind, fields[name]) for name, kind in TEMPLATES[entry.template]]
        lines.append(f"{entry.pcr:2} {entry.template_hash.hex()} {entry.template} {' '.join(shown)}\n")
    return "".join(lines)


def _read_field(kind: FieldType, text: str) -> FieldValue:
    match kind:
        case FieldType.DIGEST:
            name, _, value = text.partition(":")
            return Digest(name, bytes.fromhex(value))
        case FieldType.NAME:
            return text
        case FieldType.NUMBER:
            return int(text)
        case FieldType.BYTES:
            return bytes.fromhex(text)


def parse_ascii(text: str, file: str = "-") -> list[Entry]:
    """Entries of an ASCII list.

    Raises:
        MeasurementError: a line is no entry, or its template is unknown; the message has the line.
    """
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        try:
            pcr, digest, template, *words = line.lstrip(" ").split(" ")
            if template not in TEMPLATES:
                raise MeasurementError(f"there is no template {template!r}; there are {', '.join(TEMPLATES)}")
            described = TEMPLATES[template]
            if len(words) != len(described) or len(digest) != 2 * SHA1_SIZE:
                raise ValueError
            fields = {
                name: _read_field(kind, word) for (name, kind), word in zip(described, words, strict=True)
            }
            entry = Entry(int(pcr), bytes.fromhex(digest), template, pack_fields(template, fields))
            # There is one way to write an entry; int() and fromhex() know more.
            if format_ascii([entry]).strip("\n").lstrip(" ") != line.lstrip(" "):
                raise ValueError
            entries.append(entry)
        except MeasurementError as error:
            raise MeasurementError(f"{file}:{number}: {error}") from None
        except ValueError:
            raise MeasurementError(f"{file}:{number}: expected PCR HASH TEMPLATE FIELDS") from None
    return entries


def bank_digests(entry: Entry, algorithms: Iterable[str]) -> dict[str, bytes]:
    """What is extended into each bank: that bank's hash of the data, or all ones for a violation."""
    if entry.violation:
        return {name: b"\xff" * hashlib.new(name).digest_size for name in algorithms}
    return {name: hashlib.new(name, entry.data).digest() for name in algorithms}


def replay(entries: Iterable[Entry], algorithms: Sequence[str] = tuple(ALGORITHMS)) -> SoftwarePcrs:
    """The registers that a list leads to. Where they equal a TPM's, the list is whole and in order."""
    pcrs = SoftwarePcrs(algorithms)
    for entry in entries:
        pcrs.extend(entry.pcr, bank_digests(entry, algorithms))
    return pcrs
