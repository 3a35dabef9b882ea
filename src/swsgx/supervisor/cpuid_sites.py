"""Where a program's file has CPUID instructions, so that they can be patched.

CPUID faulting does not exist on most machines, so a program's ``0F A2`` becomes ``0F 0B``, UD2: one byte, atomic, and
the handler of SIGILL says what the emulated CPU says (``native/supervised/cpuid.c``). The two bytes also occur inside
immediates and displacements, and in data between functions. A patch there changes what the program computes; a CPUID
that is missed only tells of the real CPU. So what is not certain is left alone.

A byte search finds candidates. Each is decoded from a place that is known to begin an instruction:

1. the function of the FDE that covers it, by the binary search table of ``.eh_frame_hdr``;
2. without one, the function of the symbol table, or the entry point;
3. without either, all streams of instructions that begin some bytes before must meet there, and what is around must
   look like code that uses CPUID; and not lie in a section of data.

What was learnt:

- ``find`` of one byte is memchr and 4 times faster than ``find`` of two bytes, also with a look at each 0xA2.
- files are read, not mapped: a file that is truncated meanwhile would end us with SIGBUS, and reading costs the same.
- old linkers put the tables of C++ exceptions into the executable segment, and random bytes often decode to
  something: of 480 candidates in rustc's library, 2 there passed a check without a look at the mnemonics.
- the decoder's import takes 15 ms, and most programs have no candidate: it is loaded for the first one.

Files come from programs and may be hostile: whatever they hold, there are no exceptions, and time and memory are
bounded.
"""

from __future__ import annotations

import os
import stat
import struct
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from iced_x86 import Instruction

    from swsgx.isa.cpuid import CpuidOverride

__all__ = ["CPUID", "PATCH", "UD2", "addresses", "opened", "pack_overrides", "sites", "skipped", "soname"]

#: The instruction that is looked for.
CPUID = b"\x0f\xa2"
#: What it becomes.
UD2 = b"\x0f\x0b"
#: The one byte that changes: (its offset in the instruction, its new value).
PATCH = (1, 0x0B)

#: What asks CPUID at every start, but never for SGX, and tells nobody: patching it would cost each program for nothing.
_INDIFFERENT = frozenset(
    (
        *("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libmvec.so.1", "libpthread.so.0"),
        *(
            "libgcc_s.so.1",
            "libstdc++.so.6",
            "libcrypto.so.3",
            "libcrypto.so.1.1",
            "libgmp.so.10",
            "libgomp.so.1",
        ),
        *("libpcre2-8.so.0", "libpcre2-16.so.0", "libpcre2-32.so.0", "libpcre.so.3"),
        *("libnettle.so.8", "libgnutls.so.30", "libzstd.so.1", "liblzma.so.5", "libz.so.1"),
    )
)

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")
_IDENT = b"\x7fELF\x02\x01"
_X86_64 = 62
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_EH_FRAME = 1, 2, 0x6474E550
_PF_X = 1
_SHT_SYMTAB, _SHT_DYNSYM = 2, 11
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_DT_STRTAB, _DT_SONAME = 5, 14

# Bounds for hostile files, far above what real ones have.
_CHUNK = 256 << 10
_SEARCHED = 4 << 30
_CANDIDATES = 1 << 16
_HEADERS = 1024
_READ = 16 << 20
_SYMBOLS = 1 << 20
#: Bytes from the start of a function to a candidate in it, and bytes decoded for one file (40 ns each).
_FUNCTION = 1 << 20
_DECODED = 8 << 20
#: Candidates without a certain function that are looked at closely (0.3 ms each).
_LOOKED_AT = 512
_REMEMBERED = 1024

# The check without a known start: how far before it streams of instructions begin, how far before it they must have
# met, how many must be left, how near EAX is written before and a result read behind, and what stands there.
_WINDOW = 64
_MET = 24
_STREAMS = 8
_BEFORE = 8
_BEHIND = 6
_LONGEST_INSTRUCTION = 15
_USUAL = (
    "ADD AND BSWAP BT BTS CALL CMP DEC ENDBR64 INC INT3 JMP LEA LEAVE MOV MOVSXD MOVZX NEG NOP NOT OR POP PUSH RET SAR"
    " SHL SHR SUB TEST XCHG XOR"
    " JA JAE JB JBE JE JG JGE JL JLE JNE JNS JS SETA SETAE SETB SETBE SETE SETNE CMOVA CMOVAE CMOVB CMOVBE CMOVE CMOVNE"
    " MOVD MOVQ MOVDQA MOVDQU MOVAPS MOVUPS PINSRD PUNPCKLDQ PUNPCKLQDQ"
)

#: What a file holds that is not as it should be; and what pread says of offsets that no file has.
_BAD_FILE = (OSError, OverflowError, ValueError, struct.error)

_known: dict[tuple[int, int, int, int], tuple[int, ...]] = {}


def skipped(name: str) -> bool:
    """Whether a library of this soname (or file name) does not look for SGX, and needs no patch."""
    return name in _INDIFFERENT


def sites(file: str | int) -> tuple[int, ...]:
    """File offsets of the CPUID instructions of an ELF file, ascending; none for whatever is no x86-64 program.

    Remembered for as long as the file's device, inode, time and size stay.

    Args:
        file: a path, or a file descriptor open for reading; its position is not used.
    """
    try:
        with opened(file) as fd:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return ()
            key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            found = _known.get(key)
            if found is None:
                found = _sites(_Elf(fd))
                if len(_known) >= _REMEMBERED:
                    del _known[next(iter(_known))]
                _known[key] = found
            return found
    except _BAD_FILE:
        return ()


def soname(file: str | int) -> str | None:
    """DT_SONAME of a library; None if the file has none. Takes what :func:`sites` takes."""
    try:
        with opened(file) as fd:
            return _Elf(fd).soname() if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except _BAD_FILE:
        return None


def addresses(offsets: Iterable[int], start: int, end: int, file_offset: int) -> tuple[int, ...]:
    """Where the instructions at these file offsets lie in a mapping.

    Args:
        offsets: what :func:`sites` says.
        start: the mapping's first address.
        end: the first address behind it.
        file_offset: what of the file lies at ``start``.

    Returns: addresses of those whose two bytes are both in the mapping.
    """
    last = file_offset + end - start - len(CPUID)
    return tuple(start + offset - file_offset for offset in offsets if file_offset <= offset <= last)


def pack_overrides(maximum: int, overrides: Sequence[CpuidOverride]) -> bytes:
    """``struct cpuid_answers`` of ``native/supervised/cpuid.h``.

    Args:
        maximum: basic leaves up to this one exist at least.
        overrides: what is changed in the host's answers, see :func:`swsgx.isa.cpuid.overrides`.
    """
    return struct.pack("<II", maximum, len(overrides)) + b"".join(
        struct.pack("<10I", change.leaf, change.subleaf, *change.keep, *change.set) for change in overrides
    )


@contextmanager
def opened(file: str | int) -> Iterator[int]:
    """A file of a program's, which may be of any kind, open for reading; a descriptor stays what it is."""
    if isinstance(file, int):
        yield file
        return
    # A program may name a FIFO or a terminal.
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield fd
    finally:
        os.close(fd)


class _Segment(NamedTuple):
    """A part of the file and where it is loaded."""

    offset: int
    address: int
    size: int
    executable: bool


class _Function(NamedTuple):
    """Where instructions begin; ``certain``: nothing but instructions of one function lies up to ``end``."""

    start: int
    end: int
    certain: bool


class _Elf:
    """What is needed of an ELF file, read when it is needed. Raises ``_BAD_FILE``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        header = _EHDR.unpack(os.pread(fd, _EHDR.size, 0))
        ident, _, machine, _, self.entry, phoff, self._shoff, *_ = header
        phentsize, phnum, self._shentsize, self._shnum = header[9:13]
        if not ident.startswith(_IDENT) or machine != _X86_64 or phentsize != _PHDR.size or phnum > _HEADERS:
            raise ValueError("no program of this machine")
        self.segments: list[_Segment] = []
        self._data: list[tuple[int, int]] | None = None
        self._others: dict[int, _Segment] = {}
        for kind, flags, offset, address, _, size, _, _ in _PHDR.iter_unpack(
            self.read(phoff, phnum * _PHDR.size)
        ):
            segment = _Segment(offset, address, size, bool(flags & _PF_X))
            if kind == _PT_LOAD:
                self.segments.append(segment)
            else:
                self._others.setdefault(kind, segment)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes."""
        if size > _READ:
            raise ValueError("too large")
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise ValueError("beyond the end of the file")
        return data

    def at(self, address: int, size: int, *, least: int | None = None) -> bytes:
        """Bytes at an address, fewer where the segment ends, but not fewer than ``least`` (by default all)."""
        for segment in self.segments:
            left = segment.address + segment.size - address
            if address >= segment.address and left > 0:
                if left < (size if least is None else least):
                    break
                return self.read(segment.offset + address - segment.address, min(size, left))
        raise ValueError("not in the file")

    def candidates(self) -> list[int]:
        """File offsets of the two bytes in executable segments, ascending."""
        found: set[int] = set()
        left = _SEARCHED
        buffer = bytearray(_CHUNK)
        for segment in self.segments:
            if not segment.executable:
                continue
            position, end = segment.offset, segment.offset + segment.size
            while position < end and left > 0:
                got = min(os.preadv(self._fd, [buffer], position), end - position)
                if got < len(CPUID):
                    break
                found.update(position + at for at in _search(buffer, got))
                if len(found) > _CANDIDATES:
                    raise ValueError("no code is like that")
                position += got - 1  # the two may lie on both sides of the border
                left -= got
        return sorted(found)

    def address_of(self, offset: int) -> _Segment | None:
        """The executable segment that loads a file offset."""
        for segment in self.segments:
            if segment.executable and 0 <= offset - segment.offset < segment.size:
                return segment
        return None

    def unwind_table(self) -> _UnwindTable | None:
        """The table of ``.eh_frame_hdr``."""
        header = self._others.get(_PT_GNU_EH_FRAME)
        if header is None:
            return None
        try:
            return _UnwindTable(self, header)
        except _BAD_FILE:
            return None

    def functions_by_symbol(self, wanted: Sequence[int]) -> dict[int, _Function]:
        """The function around each of some addresses (ascending), by the symbol table or as the entry point."""
        best: list[tuple[int, int]] = [(0, 0)] * len(wanted)

        def consider(start: int, size: int) -> None:
            place = bisect_left(wanted, start)
            if place < len(wanted) and start:
                best[place] = max(best[place], (start, size))

        consider(self.entry, 0)
        with suppress(*_BAD_FILE):  # what was read until then is right all the same
            for _, info, _, section, start, size in self._symbols():
                if info & 0xF in (_STT_FUNC, _STT_GNU_IFUNC) and section:
                    consider(start, size)
        found: dict[int, _Function] = {}
        nearest = (0, 0)
        for address, candidate in zip(wanted, best, strict=True):
            nearest = max(nearest, candidate)
            start, size = nearest
            if start and address < start + (size or _FUNCTION):
                found[address] = _Function(start, start + (size or _FUNCTION), bool(size))
        return found

    def data_section(self, address: int) -> bool:
        """Whether a section of data lies at an address; False where there is no table of sections."""
        if self._data is None:
            self._data = []
            with suppress(*_BAD_FILE):
                self._data += (
                    (start, size)
                    for _, _, flags, start, _, size, *_ in self._sections()
                    if flags & (_SHF_ALLOC | _SHF_EXECINSTR) == _SHF_ALLOC
                )
        return any(0 <= address - start < size for start, size in self._data)

    def _sections(self) -> Iterator[tuple[int, ...]]:
        if self._shentsize == _SHDR.size and self._shnum <= _HEADERS:
            yield from _SHDR.iter_unpack(self.read(self._shoff, self._shnum * _SHDR.size))

    def _symbols(self) -> Iterator[tuple[int, ...]]:
        tables = {section[1]: (section[4], section[5]) for section in self._sections()}
        offset, size = tables.get(_SHT_SYMTAB) or tables.get(_SHT_DYNSYM) or (0, 0)
        left = min(size // _SYMBOL.size, _SYMBOLS)
        while left > 0:
            count = min(left, 4096)
            yield from _SYMBOL.iter_unpack(self.read(offset, count * _SYMBOL.size))
            offset += count * _SYMBOL.size
            left -= count

    def soname(self) -> str | None:
        dynamic = self._others.get(_PT_DYNAMIC)
        if dynamic is None:
            return None
        size = min(dynamic.size, _HEADERS * _DYNAMIC.size)
        tags = dict(_DYNAMIC.iter_unpack(self.read(dynamic.offset, size - size % _DYNAMIC.size)))
        if _DT_SONAME not in tags or _DT_STRTAB not in tags:
            return None
        name = self.at(tags[_DT_STRTAB] + tags[_DT_SONAME], 256, least=1)
        return name.split(b"\0")[0].decode("utf-8", "replace")


class _UnwindTable:
    """Functions by their unwind information: ``.eh_frame_hdr`` finds the FDE, the FDE says where the function ends.

    Source: Linux Standard Base, "Exception Frames".
    """

    _TABLE_ENCODING = 0x3B  # relative to the header, 4 bytes, signed: the only one that linkers write

    def __init__(self, elf: _Elf, header: _Segment) -> None:
        self._elf = elf
        self._base = header.address
        version, pointer, count_encoding, encoding = elf.at(header.address, 4)
        if version != 1 or encoding != self._TABLE_ENCODING or count_encoding != 0x03:
            raise ValueError("no search table")
        start = header.address + 4 + _pointer_size(pointer)
        count = int.from_bytes(elf.at(start, 4), "little")
        if count * 8 > min(header.size, _READ):
            raise ValueError("the search table is larger than its segment")
        self._table = memoryview(elf.at(start + 4, count * 8)).cast("i")
        self._encodings: dict[int, int] = {}

    def function(self, address: int) -> _Function | None:
        """The function around an address."""
        table, target = self._table, address - self._base
        place = bisect_right(range(len(table) // 2), target, key=lambda i: table[2 * i])
        if place == 0:
            return None
        try:
            start, end = self._range(self._base + table[2 * place - 1])
        except (*_BAD_FILE, IndexError):
            return None
        return _Function(start, end, True) if start <= address < end else None

    def _range(self, fde: int) -> tuple[int, int]:
        """First address of a function and the first behind it."""
        data = self._elf.at(fde, 24, least=16)
        length, distance = struct.unpack_from("<II", data)
        if not 12 <= length < 0xFFFF_FFF0 or distance == 0:
            raise ValueError("no FDE")
        encoding = self._encoding(fde + 4 - distance)
        size = _pointer_size(encoding)
        start = int.from_bytes(data[8 : 8 + size], "little", signed=encoding & 8 != 0)
        if encoding & 0x70 == 0x10:
            start += fde + 8
        elif encoding & 0x70:
            raise ValueError("an encoding that no x86-64 compiler uses")
        span = int.from_bytes(data[8 + size : 8 + 2 * size], "little")
        return start, start + span

    def _encoding(self, cie: int) -> int:
        """How the FDEs of a CIE write their addresses: the augmentation R."""
        known = self._encodings.get(cie)
        if known is not None:
            return known
        data = self._elf.at(cie, 64, least=16)
        if data[4:8] != bytes(4) or data[8] not in (1, 3):
            raise ValueError("no CIE")
        text_end = data.index(b"\0", 9)
        augmentation = data[9:text_end]
        at = _leb128_end(data, _leb128_end(data, text_end + 1))  # the two alignment factors
        at = at + 1 if data[8] == 1 else _leb128_end(data, at)  # the return address register
        encoding = 0
        if augmentation.startswith(b"z"):
            at = _leb128_end(data, at)
            for letter in augmentation[1:]:
                if letter == ord("R"):
                    encoding = data[at]
                    break
                if letter == ord("P"):
                    at += 1 + _pointer_size(data[at])
                elif letter == ord("L"):
                    at += 1
                elif letter not in b"SB":
                    raise ValueError("an augmentation that nobody knows")
        elif augmentation:
            raise ValueError("an augmentation that nobody knows")
        if len(self._encodings) < _HEADERS:
            self._encodings[cie] = encoding
        return encoding


def _pointer_size(encoding: int) -> int:
    """Bytes of a pointer in a DW_EH_PE encoding."""
    size = {0: 8, 2: 2, 3: 4, 4: 8}.get(encoding & 7)
    if size is None or encoding & 0x80:
        raise ValueError("an encoding that no x86-64 compiler uses")
    return size


def _leb128_end(data: bytes, at: int) -> int:
    """Where a LEB128 number ends."""
    while data[at] & 0x80:
        at += 1
    return at + 1


def _search(buffer: bytearray, end: int) -> list[int]:
    """Where the two bytes stand among the first ``end``."""
    found: list[int] = []
    find = buffer.find
    patience = 4096  # where 0xA2 is common, the slower search for both bytes is the faster one
    at = find(0xA2, 1, end)
    while at > 0 and patience:
        if buffer[at - 1] == 0x0F:
            found.append(at - 1)
        patience -= 1
        at = find(0xA2, at + 1, end)
    if at > 0:
        at = find(CPUID, at - 1, end)
        while at >= 0:
            found.append(at)
            at = find(CPUID, at + 2, end)
    return found


def _sites(elf: _Elf) -> tuple[int, ...]:
    candidates = {}
    for offset in elf.candidates():
        segment = elf.address_of(offset)
        if segment is not None:
            candidates[offset - segment.offset + segment.address] = offset
    if not candidates:
        return ()
    wanted = sorted(candidates)
    functions: dict[_Function, list[int]] = {}
    alone: list[int] = []
    table = elf.unwind_table()
    for address in wanted:
        function = table.function(address) if table else None
        if function is None:
            alone.append(address)
        else:
            functions.setdefault(function, []).append(address)
    if alone:
        by_symbol = elf.functions_by_symbol(alone)
        for address, function in by_symbol.items():
            functions.setdefault(function, []).append(address)
        alone = [a for a in alone if a not in by_symbol and not elf.data_section(a)]
        if len(alone) > _LOOKED_AT:
            alone = []  # that many CPUID instructions are data
    confirmed = _in_functions(elf, functions)
    confirmed += [address for address in alone if _streams_meet(elf, address)]
    return tuple(sorted(candidates[address] for address in confirmed))


def _in_functions(elf: _Elf, functions: dict[_Function, list[int]]) -> list[int]:
    """Those of the addresses in functions at which an instruction begins; the bytes say that it is CPUID."""
    from iced_x86 import Decoder

    confirmed: list[int] = []
    left = _DECODED
    patience = _LOOKED_AT
    for function, inside in functions.items():
        near = {address for address in inside if address - function.start < _FUNCTION}
        size = max(near, default=function.start) + len(CPUID) - function.start
        if not near or size > left:
            continue
        left -= size
        try:
            code = elf.at(function.start, size)
        except _BAD_FILE:
            continue
        leading = deque((function.start,), _BEFORE)
        for instruction in Decoder(64, code, ip=function.start):
            if not instruction:
                break  # data, so what follows may be shifted
            if instruction.ip in near:
                if function.certain:
                    confirmed.append(instruction.ip)
                elif patience > 0:
                    patience -= 1
                    if _used(elf, instruction.ip, leading[0]):
                        confirmed.append(instruction.ip)
            if not function.certain:
                leading.append(instruction.ip)
    return confirmed


def _streams_meet(elf: _Elf, address: int) -> bool:
    """Whether all streams of instructions that begin well before an address meet at it, and it is used as CPUID is.

    x86 code finds back to the right boundaries within a few instructions, wherever decoding begins.
    """
    from iced_x86 import Decoder

    start, code = _before(elf, address)
    decoder = Decoder(64, code, ip=start)
    # What becomes of a stream that begins here: None in nonsense, else whether it comes to the address.
    meets: list[bool | None] = [None] * len(code)
    streams = 0
    first = -1
    target = address - start
    for at in range(target - 1, -1, -1):
        decoder.position = at
        instruction = decoder.decode()
        behind = at + instruction.len
        if instruction and not instruction.is_privileged:
            meets[at] = behind == target if behind >= target else meets[behind]
        if at <= target - _MET:
            if meets[at] is False:
                return False
            if meets[at]:
                streams += 1
                first = at
    return streams >= _STREAMS and _used(elf, address, start + first)


def _before(elf: _Elf, address: int) -> tuple[int, bytes]:
    """Up to ``_WINDOW`` bytes before an instruction, and itself; and the address of the first."""
    for segment in elf.segments:
        if segment.executable and segment.address <= address < segment.address + segment.size:
            start = max(segment.address, address - _WINDOW)
            try:
                return start, elf.at(start, address - start + len(CPUID))
            except _BAD_FILE:
                break
    return address, b""


def _used(elf: _Elf, address: int, start: int) -> bool:
    """Whether a CPUID instruction has code around that uses it: EAX is written before, and a result read behind.

    Args:
        elf: the file.
        address: of the instruction.
        start: where instructions begin that lead to it.
    """
    from iced_x86 import Code, Decoder, InstructionInfoFactory, Mnemonic, OpAccess, Register, RegisterExt

    info = InstructionInfoFactory().info
    usual = {getattr(Mnemonic, name) for name in _USUAL.split()}
    results = (Register.RAX, Register.RBX, Register.RCX, Register.RDX)
    reads = (OpAccess.READ, OpAccess.READ_WRITE, OpAccess.COND_READ)
    writes = (OpAccess.WRITE, OpAccess.READ_WRITE)

    def touches(instruction: Instruction, registers: Sequence[int], accesses: Sequence[int]) -> bool:
        return any(
            RegisterExt.full_register(used.register) in registers and used.access in accesses
            for used in info(instruction).used_registers()
        )

    def is_usual(instruction: Instruction) -> bool:
        # These two begin with 00 and 08, which is what data are full of.
        return instruction.mnemonic in usual and instruction.code not in (Code.ADD_RM8_R8, Code.OR_RM8_R8)

    try:
        leading = list(Decoder(64, elf.at(start, address - start), ip=start))[-_BEFORE:]
        data = elf.at(address + len(CPUID), _BEHIND * _LONGEST_INSTRUCTION, least=1)
    except _BAD_FILE:
        return False
    behind = [instruction for _, instruction in zip(range(_BEHIND), Decoder(64, data), strict=False)]
    return (
        all(map(is_usual, leading))
        and all(map(is_usual, behind[:3]))
        and any(touches(instruction, (Register.RAX,), writes) for instruction in leading)
        and any(touches(instruction, results, reads) for instruction in behind)
    )
