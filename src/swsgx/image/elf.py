"""ELF files as far as loading goes: the header, the program headers, notes, relocations. 64-bit x86 only.

pyelftools knows how the structures look; whether their values make sense is looked at here, since a file may
say anything. Sections are not used: a loader does not need them, and a stripped file has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from swsgx.image.errors import Format, ImageError
from swsgx.isa.address import PAGE_SIZE

__all__ = [
    "ET_DYN",
    "ET_EXEC",
    "PF_R",
    "PF_W",
    "PF_X",
    "PT_DYNAMIC",
    "PT_INTERP",
    "PT_LOAD",
    "PT_NOTE",
    "PT_TLS",
    "R_X86_64_NONE",
    "R_X86_64_RELATIVE",
    "ElfImage",
    "Note",
    "Relocation",
    "Segment",
    "permissions",
]

PF_X, PF_W, PF_R = 1, 2, 4
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_TLS = 1, 2, 3, 4, 7
ET_EXEC, ET_DYN = 2, 3
EM_X86_64 = 62
R_X86_64_NONE, R_X86_64_RELATIVE = 0, 8
DT_NULL = 0

_EHDR_SIZE, _PHDR_SIZE, _DYN_SIZE, _RELA_SIZE = 64, 56, 16, 24
_GABI = "System V ABI, 'Object Files' and its AMD64 supplement"


def permissions(p_flags: int) -> int:
    """SECINFO's R, W, X (1, 2, 4) for a segment's PF_R, PF_W, PF_X (4, 2, 1)."""
    return (p_flags & PF_R) >> 2 | p_flags & PF_W | (p_flags & PF_X) << 2


@dataclass(frozen=True, slots=True)
class Segment:
    """One program header.

    Attributes:
        index: its number in the table.
        header_offset: where the header itself lies in the file, in bytes.
        type: PT_*.
        flags: PF_* bits.
        offset: of its bytes in the file.
        vaddr: virtual address; for an enclave, bytes from its base.
        filesz: bytes in the file.
        memsz: bytes in memory; what filesz lacks is zero.
        align: p_align.
    """

    index: int
    header_offset: int
    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int

    @property
    def first_page(self) -> int:
        """Address of the page that holds its first byte."""
        return self.vaddr - self.vaddr % PAGE_SIZE

    @property
    def pages_end(self) -> int:
        """Address of the first page after it."""
        return -(-(self.vaddr + self.memsz) // PAGE_SIZE) * PAGE_SIZE

    @property
    def rwx(self) -> str:
        """``"rwx"``, with a dash for each that is missing."""
        return "".join(c if self.flags & bit else "-" for c, bit in (("r", PF_R), ("w", PF_W), ("x", PF_X)))


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of a PT_NOTE segment: ``offset`` is the descriptor's, in bytes of the file."""

    name: bytes
    type: int
    offset: int
    desc: memoryview = field(repr=False)


@dataclass(frozen=True, slots=True)
class Relocation:
    """One RELA entry: ``where`` is its place in the file, ``target`` the address that it changes."""

    where: int
    target: int
    type: int


@lru_cache(maxsize=1)
def _structs() -> Any:
    """Parsers of pyelftools for 64-bit little-endian x86-64 files."""
    from elftools.elf.structs import ELFStructs

    structs = ELFStructs(little_endian=True, elfclass=64)
    structs.create_basic_structs()
    structs.create_advanced_structs(e_type="ET_DYN", e_machine="EM_X86_64", e_ident_osabi="ELFOSABI_SYSV")
    return structs


class ElfImage:
    """A file with a sound ELF header and program headers.

    Args:
        file: its name, for messages.
        data: all its bytes.

    Attributes:
        form: makes the errors.
        type: e_type.
        entry: e_entry.
        segments: the program headers, in order; those with bytes in the file lie inside it.

    Raises:
        ImageError: not an ELF file for 64-bit x86, truncated, or a segment outside the file.
    """

    def __init__(self, file: str, data: memoryview) -> None:
        self.form = Format(file, "ELF", _GABI)
        self.data = data
        refuse = self.form.refuse
        if len(data) < _EHDR_SIZE:
            raise refuse(
                "the file holds an ELF header", expected=f"{_EHDR_SIZE} bytes", found=f"{len(data)} bytes"
            )
        ident = bytes(data[:16])
        if ident[:4] != b"\x7fELF":
            raise refuse(
                "the file starts with the ELF magic", expected="7f 45 4c 46", found=ident[:4].hex(" ")
            )
        if ident[4:7] != b"\x02\x01\x01":
            raise refuse(
                "the file is 64-bit little-endian ELF, version 1",
                expected="class 2, data 1, version 1",
                found=f"class {ident[4]}, data {ident[5]}, version {ident[6]}",
                offset=4,
            )
        # e_type and e_machine are read as numbers: pyelftools' names for them do not matter here.
        self.type = int.from_bytes(data[16:18], "little")
        machine = int.from_bytes(data[18:20], "little")
        if machine != EM_X86_64:
            raise refuse(
                "the file is for x86-64", expected=f"machine {EM_X86_64}", found=f"{machine}", offset=18
            )
        header = self._parse("Elf_Ehdr", 0, _EHDR_SIZE)
        self.entry = int(header["e_entry"])
        self._table(int(header["e_phoff"]), int(header["e_phnum"]), int(header["e_phentsize"]))

    def _parse(self, name: str, offset: int, size: int) -> Any:
        """The structure ``name`` at ``offset``. The caller has checked that it lies inside the file."""
        from elftools.construct import ConstructError

        try:
            return getattr(_structs(), name).parse(bytes(self.data[offset : offset + size]))
        except ConstructError as error:
            raise self.form.refuse(
                f"the file has a sound {name}", expected="known values", found=str(error), offset=offset
            ) from None

    def _table(self, phoff: int, phnum: int, phentsize: int) -> None:
        refuse = self.form.refuse
        if phentsize != _PHDR_SIZE:
            raise refuse(
                "a program header has 56 bytes", expected=str(_PHDR_SIZE), found=str(phentsize), offset=54
            )
        if not 0 < phnum < 0xFFFF:
            raise refuse("the file has program headers", expected="1 to 65534", found=str(phnum), offset=56)
        if phoff < _EHDR_SIZE or phoff + phnum * _PHDR_SIZE > len(self.data):
            raise refuse(
                "the program headers lie inside the file, after its header",
                expected=f"between {_EHDR_SIZE:#x} and {len(self.data):#x}",
                found=f"{phnum} headers from {phoff:#x}",
                offset=32,
            )
        self.segments = tuple(self._segment(i, phoff + i * _PHDR_SIZE) for i in range(phnum))

    def _segment(self, index: int, at: int) -> Segment:
        header = self._parse("Elf_Phdr", at, _PHDR_SIZE)
        segment = Segment(
            index,
            at,
            # pyelftools gives a name where it knows one; the number is what the file says.
            int.from_bytes(self.data[at : at + 4], "little"),
            int(header["p_flags"]),
            int(header["p_offset"]),
            int(header["p_vaddr"]),
            int(header["p_filesz"]),
            int(header["p_memsz"]),
            int(header["p_align"]),
        )
        used = segment.filesz and segment.type in (PT_LOAD, PT_DYNAMIC, PT_NOTE)
        if used and segment.offset + segment.filesz > len(self.data):
            raise self.form.refuse(
                f"segment {index} lies inside the file",
                expected=f"an end of at most {len(self.data):#x}",
                found=f"{segment.filesz:#x} bytes from {segment.offset:#x}",
                offset=at + 8,
            )
        return segment

    def loads(self) -> tuple[Segment, ...]:
        """The PT_LOAD segments that occupy memory, in the table's order.

        Raises:
            ImageError: more bytes in the file than in memory, or an end beyond 64 bits.
        """
        loads = tuple(s for s in self.segments if s.type == PT_LOAD and (s.memsz or s.filesz))
        for s in loads:
            if s.filesz > s.memsz:
                raise self.form.refuse(
                    f"segment {s.index} has room for its bytes",
                    expected=f"p_filesz of at most p_memsz {s.memsz:#x}",
                    found=f"{s.filesz:#x}",
                    offset=s.header_offset + 32,
                )
            if s.vaddr + s.memsz > 1 << 47:
                raise self.form.refuse(
                    f"segment {s.index} ends in the address space",
                    expected=f"an end of at most {1 << 47:#x}",
                    found=f"{s.vaddr + s.memsz:#x}",
                    offset=s.header_offset + 16,
                )
        return loads

    def notes(self) -> Iterator[Note]:
        """Every entry of every PT_NOTE segment.

        Raises:
            ImageError: an entry runs over the end of its segment.
        """
        for segment in self.segments:
            if segment.type != PT_NOTE:
                continue
            align = 8 if segment.align == 8 else 4
            at, end = segment.offset, segment.offset + segment.filesz
            while at < end:
                head = at + 12
                if head > end:
                    raise self._bad_note(segment, at, "a header of 12 bytes", f"{end - at} bytes")
                namesz, descsz, kind = (
                    int.from_bytes(self.data[at + i : at + i + 4], "little") for i in (0, 4, 8)
                )
                desc = head + -(-namesz // align) * align
                if desc + descsz > end:
                    raise self._bad_note(
                        segment,
                        at,
                        f"at most {end - head} bytes",
                        f"name of {namesz}, descriptor of {descsz}",
                    )
                name = bytes(self.data[head : head + namesz])
                yield Note(name.removesuffix(b"\0"), kind, desc, self.data[desc : desc + descsz])
                at = desc + -(-descsz // align) * align

    def _bad_note(self, segment: Segment, at: int, expected: str, found: str) -> ImageError:
        return self.form.refuse(
            f"each note of segment {segment.index} lies inside it", expected=expected, found=found, offset=at
        )

    def dynamic(self) -> dict[int, int]:
        """The dynamic table's tags and values; of a tag that comes twice, the last. Empty without a table.

        Raises:
            ImageError: more than one table, or one that does not end with DT_NULL.
        """
        tables = [s for s in self.segments if s.type == PT_DYNAMIC]
        if len(tables) > 1:
            raise self.form.refuse(
                "there is one dynamic table",
                expected="at most one PT_DYNAMIC",
                found=str(len(tables)),
                offset=tables[1].header_offset,
            )
        values: dict[int, int] = {}
        for table in tables:
            for at in range(table.offset, table.offset + table.filesz - _DYN_SIZE + 1, _DYN_SIZE):
                entry = self._parse("Elf_Dyn", at, _DYN_SIZE)
                tag = int.from_bytes(self.data[at : at + 8], "little")
                if tag == DT_NULL:
                    return values
                values[tag] = int(entry["d_val"])
            raise self.form.refuse(
                "the dynamic table ends with DT_NULL",
                expected="DT_NULL",
                found=f"{len(values)} entries without it",
                offset=table.header_offset,
            )
        return values

    def file_offset(self, address: int, size: int) -> int | None:
        """Where in the file the ``size`` bytes at ``address`` are; None if no one segment covers them."""
        for s in self.segments:
            if s.type == PT_LOAD and s.vaddr <= address and address + size <= s.vaddr + s.filesz:
                return s.offset + address - s.vaddr
        return None

    def relocations(self, table: int, size: int) -> Iterator[Relocation]:
        """The RELA entries of the table at address ``table``, ``size`` bytes.

        Raises:
            ImageError: the table is not in a segment's file bytes, or not made of whole entries.
        """
        at = self.file_offset(table, size)
        if at is None or size % _RELA_SIZE:
            raise self.form.refuse(
                "the relocations lie inside a segment, 24 bytes each",
                expected="DT_RELA and DT_RELASZ inside the file bytes of a PT_LOAD",
                found=f"{size:#x} bytes at address {table:#x}",
                offset=at,
            )
        for where in range(at, at + size, _RELA_SIZE):
            entry = self._parse("Elf_Rela", where, _RELA_SIZE)
            yield Relocation(where, int(entry["r_offset"]), int(entry["r_info_type"]))
