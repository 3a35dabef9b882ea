"""Memory layouts with offsets written out, checked when the class is made.

A :class:`Layout` is a typed view over a buffer. It names every byte of a hardware structure, with its
offset as the manual prints it; a gap, an overlap or a wrong total is a ``TypeError`` when the class is
defined, not a wrong measurement a year later. The same declaration is printed for C
(``tools/gen_headers.py``) and read by numpy (:meth:`Layout.record_spec`), so that no second list of offsets
exists.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

__all__ = ["SDM", "Buffer", "Field", "Layout", "octets", "sub", "u8", "u16", "u32", "u64", "zero"]

#: The edition of the manual that the layouts were read from; every ``source`` starts with it.
SDM = "Intel SDM volume 3D, order number 332831, December 2023"

Buffer = bytes | bytearray | memoryview

T = TypeVar("T")


class Field(Generic[T]):
    """One named range of a layout, ``size`` bytes at ``offset``.

    Attributes:
        name: the attribute's name in the class.
        offset: bytes from the start of the structure.
        size: bytes.
        doc: what the field holds, with its unit and its rule.
        reserved: True for bytes that the manual keeps; they must be zero.
    """

    reserved = False
    kind = "octets"

    def __init__(self, offset: int, size: int, doc: str = "") -> None:
        self.offset = offset
        self.size = size
        self.doc = doc
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def end(self) -> int:
        """Offset of the first byte after the field."""
        return self.offset + self.size

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Layout, owner: type) -> T: ...
    def __get__(self, instance: Layout | None, owner: type) -> Self | T:
        if instance is None:
            return self
        return self.read(instance.buffer)

    def __set__(self, instance: Layout, value: T) -> None:
        self.write(instance.buffer, value)

    def read(self, buffer: memoryview) -> T:
        """The field's value in a buffer that holds the whole structure."""
        raise NotImplementedError

    def write(self, buffer: memoryview, value: T) -> None:
        """Store a value; ValueError if it does not fit the field."""
        raise NotImplementedError


class _Uint(Field[int]):
    """An unsigned little-endian integer."""

    def __init__(self, offset: int, size: int, doc: str) -> None:
        super().__init__(offset, size, doc)
        self.kind = f"u{8 * size}"
        self._unpack = struct.Struct({1: "<B", 2: "<H", 4: "<I", 8: "<Q"}[size]).unpack_from

    def read(self, buffer: memoryview) -> int:
        return int(self._unpack(buffer, self.offset)[0])

    def write(self, buffer: memoryview, value: int) -> None:
        try:
            buffer[self.offset : self.offset + self.size] = int(value).to_bytes(self.size, "little")
        except OverflowError:
            raise ValueError(f"{self.name}: {value:#x} does not fit in {self.size} bytes, unsigned") from None


class _Octets(Field[bytes]):
    """A fixed number of bytes."""

    def read(self, buffer: memoryview) -> bytes:
        return bytes(buffer[self.offset : self.offset + self.size])

    def write(self, buffer: memoryview, value: Buffer) -> None:
        if len(value) != self.size:
            raise ValueError(f"{self.name}: {len(value)} bytes given, the field has {self.size}")
        buffer[self.offset : self.offset + self.size] = value


class _Zero(_Octets):
    """Reserved bytes: named, readable, writable (so that a test can break the rule), must be zero."""

    reserved = True
    kind = "reserved"


L = TypeVar("L", bound="Layout")


class _Sub(Field[L]):
    """A structure inside a structure: a view over the same bytes."""

    kind = "sub"

    def __init__(self, offset: int, layout: type[L], doc: str) -> None:
        super().__init__(offset, layout.size_of, doc)
        self.layout = layout

    def read(self, buffer: memoryview) -> L:
        return self.layout(buffer[self.offset : self.offset + self.size])

    def write(self, buffer: memoryview, value: L) -> None:
        buffer[self.offset : self.offset + self.size] = value.buffer


def u8(offset: int, doc: str = "") -> Field[int]:
    """One byte, as an integer."""
    return _Uint(offset, 1, doc)


def u16(offset: int, doc: str = "") -> Field[int]:
    """Two bytes, little-endian."""
    return _Uint(offset, 2, doc)


def u32(offset: int, doc: str = "") -> Field[int]:
    """Four bytes, little-endian."""
    return _Uint(offset, 4, doc)


def u64(offset: int, doc: str = "") -> Field[int]:
    """Eight bytes, little-endian."""
    return _Uint(offset, 8, doc)


def octets(offset: int, size: int, doc: str = "") -> Field[bytes]:
    """``size`` bytes, uninterpreted."""
    return _Octets(offset, size, doc)


def zero(offset: int, size: int, doc: str = "reserved, must be zero") -> Field[bytes]:
    """``size`` reserved bytes."""
    return _Zero(offset, size, doc)


def sub(offset: int, layout: type[L], doc: str = "") -> Field[L]:
    """A nested structure at ``offset``."""
    return _Sub(offset, layout, doc)


class Layout:
    """A view of ``size_of`` bytes whose fields are the class's attributes.

    Subclasses give ``size`` and ``align`` in bytes and ``source``, the place in the manual or kernel that
    defines the layout; the fields must cover the size exactly, without gap or overlap.

    Args:
        buffer: at least ``size_of`` bytes; the view does not copy. Without it, a new zeroed one.
    """

    size_of: ClassVar[int] = 0
    align_of: ClassVar[int] = 1
    source: ClassVar[str] = ""
    _fields: ClassVar[tuple[Field[Any], ...]] = ()

    __slots__ = ("buffer",)

    def __init_subclass__(cls, *, size: int, align: int, source: str) -> None:
        super().__init_subclass__()
        cls.size_of = size
        cls.align_of = align
        cls.source = source
        fields = sorted((f for f in vars(cls).values() if isinstance(f, Field)), key=lambda f: f.offset)
        at = 0
        for field in fields:
            if field.offset != at:
                what = "overlaps the field before it" if field.offset < at else "leaves a gap before it"
                raise TypeError(f"{cls.__name__}.{field.name} at {field.offset} {what}: expected offset {at}")
            at = field.end
        if at != size:
            raise TypeError(f"{cls.__name__}: the fields end at {at}, the structure has {size} bytes")
        cls._fields = tuple(fields)

    def __init__(self, buffer: Buffer | None = None) -> None:
        view = memoryview(bytearray(self.size_of) if buffer is None else buffer).cast("B")
        if len(view) < self.size_of:
            raise ValueError(
                f"{type(self).__name__}: {len(view)} bytes given, the structure has {self.size_of}"
            )
        self.buffer = view[: self.size_of]

    @classmethod
    def of(cls, **values: Any) -> Self:
        """A new zeroed structure with the named fields set."""
        made = cls()
        known = {f.name for f in cls._fields}
        for name, value in values.items():
            if name not in known:
                raise TypeError(f"{cls.__name__} has no field {name!r}")
            setattr(made, name, value)
        return made

    @classmethod
    def copy_of(cls, data: Buffer) -> Self:
        """A structure over a private copy of ``data`` (exactly ``size_of`` bytes)."""
        if len(data) != cls.size_of:
            raise ValueError(f"{cls.__name__}: {len(data)} bytes given, the structure has {cls.size_of}")
        return cls(bytearray(data))

    @classmethod
    def fields(cls) -> tuple[Field[Any], ...]:
        """All fields, reserved ones too, in the order of their offsets."""
        return cls._fields

    @classmethod
    def record_spec(cls) -> list[tuple[str, str]]:
        """``[(name, numpy type string)]``, packed: what ``numpy.dtype`` takes to see an array of these."""
        return [
            (f.name, f"<u{f.size}" if f.kind in ("u8", "u16", "u32", "u64") else f"V{f.size}")
            for f in cls._fields
        ]

    def __bytes__(self) -> bytes:
        return bytes(self.buffer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and type(self) is type(other) and self.buffer == other.buffer

    __hash__ = None  # type: ignore[assignment]

    def first_nonzero_reserved(self) -> tuple[str, int] | None:
        """``(field name, byte offset)`` of the first reserved byte that is not zero, or None."""
        for field in self._fields:
            if field.reserved:
                data = self.buffer[field.offset : field.end]
                if any(data):
                    return field.name, field.offset + next(i for i, b in enumerate(data) if b)
        return None

    def values(self) -> Iterator[tuple[Field[Any], Any]]:
        """Each field that is not reserved, with its value."""
        for field in self._fields:
            if not field.reserved:
                yield field, field.read(self.buffer)

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.name}={v:#x}" for f, v in self.values() if isinstance(v, int) and v)
        return f"{type(self).__name__}({shown})"
