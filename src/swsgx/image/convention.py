"""swsgx's own enclave convention: a static-pie ELF file with a note; ``docs/enclave-convention.md`` tells it.

The file holds code and data. Everything that depends on the number of threads (TCS, SSA, stack, thread page)
and the heap is laid out here, behind the image, from the sizes in the note.
"""

from __future__ import annotations

from collections.abc import Iterator

from swsgx.image.elf import (
    ET_DYN,
    PF_R,
    PF_W,
    PF_X,
    PT_INTERP,
    PT_TLS,
    R_X86_64_NONE,
    R_X86_64_RELATIVE,
    ElfImage,
    Note,
    Segment,
    permissions,
)
from swsgx.image.errors import Format
from swsgx.image.plan import LoadPlan, PageRun
from swsgx.isa.address import PAGE_SIZE, Offset
from swsgx.isa.flags import Attributes, PageType, SecinfoFlags, Xfrm, secinfo_flags
from swsgx.isa.layout import Layout, u32, u64, zero
from swsgx.isa.structs import Tcs

__all__ = [
    "NOTE_NAME",
    "NOTE_TYPE",
    "EnclaveNote",
    "ThreadPage",
    "convention_note",
    "convention_plan",
    "region",
]

NOTE_NAME = b"swsgx"
NOTE_TYPE = 1
_VERSION = 1
_SOURCE = "docs/enclave-convention.md"

_REG_RW = secinfo_flags(PageType.REG, SecinfoFlags.R | SecinfoFlags.W)
_TCS = secinfo_flags(PageType.TCS)
#: FSLIMIT and GSLIMIT of each TCS; only 32-bit code would notice.
_LIMIT = 0xFFF
_MAX_THREADS = 4096
_MAX_FRAMES = 1024
_MAX_PAGES = 1 << 24
#: Largest enclave: what CPUID allows on most machines, and what can be measured while somebody waits.
_MAX_END = 1 << 36

_DT_NEEDED, _DT_RELA, _DT_RELASZ, _DT_REL, _DT_TEXTREL, _DT_JMPREL, _DT_RELR = 1, 7, 8, 17, 22, 23, 36


class EnclaveNote(Layout, size=64, align=4, source=_SOURCE):
    """Descriptor of the note ``swsgx``, type 1."""

    version = u32(0, "1")
    ssaframesize = u32(4, "pages in one SSA frame")
    nssa = u32(8, "SSA frames for each thread")
    threads = u32(12, "TCS pages")
    stack_pages = u64(16, "pages of stack for each thread")
    heap_pages = u64(24, "pages of heap, shared by the threads; may be 0")
    size = u64(32, "bytes of the enclave's range, a power of two; 0: the smallest that holds everything")
    attributes = u64(40, "ATTRIBUTES.FLAGS wanted; MODE64BIT at least, not INIT")
    xfrm = u64(48, "ATTRIBUTES.XFRM wanted; x87 and SSE at least")
    miscselect = u32(56, "MISCSELECT wanted")
    reserved_60 = zero(60, 4)


class ThreadPage(Layout, size=PAGE_SIZE, align=PAGE_SIZE, source=_SOURCE):
    """What FS and GS point to: how a thread finds its memory. Offsets are in bytes from the enclave's base."""

    self_offset = u64(0, "this page")
    stack_top = u64(8, "first byte above the stack; page aligned")
    stack_bottom = u64(16, "lowest byte of the stack")
    index = u64(24, "number of the thread, from 0, in the order of the TCS pages")
    ssa = u64(32, "SSA frame 0")
    ssa_frame = u64(40, "bytes in an SSA frame")
    heap = u64(48, "the heap; 0 without one")
    heap_size = u64(56, "bytes of heap")
    enclave_size = u64(64, "bytes of the enclave's range")
    reserved_72 = zero(72, 56)
    own = zero(128, PAGE_SIZE - 128, "the enclave's own; zero at first")


def convention_note(elf: ElfImage) -> Note | None:
    """The note that makes a file one of ours, or None.

    Raises:
        ImageError: a note segment is damaged.
    """
    return next((n for n in elf.notes() if n.name == NOTE_NAME and n.type == NOTE_TYPE), None)


def convention_plan(elf: ElfImage, note: Note) -> LoadPlan:
    """The plan of an enclave in our own convention.

    Raises:
        ImageError: the file breaks a rule of the convention.
    """
    form = Format(elf.form.file, "ELF enclave", _SOURCE)
    wanted = _checked_note(form, note)
    segments = _checked_segments(form, elf)
    _check_linking(form, elf, segments)
    image_end = segments[-1].pages_end
    layout = list(_layout(wanted, image_end))
    end = layout[-1][2]
    if max(end, wanted.size) > _MAX_END:
        raise form.refuse(
            "the enclave fits in 64 GiB",
            expected=f"an end of at most {_MAX_END:#x}",
            found=f"{max(end, wanted.size):#x}",
        )
    size = wanted.size or max(2 * PAGE_SIZE, 1 << (end - 1).bit_length())
    if size & (size - 1) or size < end:
        raise form.refuse(
            "the note's size is a power of two that holds everything",
            expected=f"0, or a power of two of at least {end:#x}",
            found=f"{size:#x}",
            offset=note.offset + EnclaveNote.size.offset,
        )
    runs = [run for s in segments for run in region(elf.data, s)]
    tcs: list[Offset] = []
    places = {name: start for name, start, _ in layout}
    for name, start, stop in layout:
        kind, _, number = name.partition(" ")
        content = None
        if kind == "tcs":
            content = _tcs_page(wanted, elf.entry, places, number)
            tcs.append(Offset(start))
        elif kind == "thread":
            content = _thread_page(wanted, size, places, number)
        flags = _TCS if kind == "tcs" else _REG_RW
        count = (stop - start) // PAGE_SIZE
        runs.append(PageRun(Offset(start), count, flags, content is not None, content, name=name))
    plan = LoadPlan(
        form.file,
        "swsgx",
        size,
        wanted.ssaframesize,
        tuple(runs),
        tuple(tcs),
        wanted.attributes,
        wanted.xfrm,
        wanted.miscselect,
    )
    plan.validate()
    return plan


def _checked_note(form: Format, note: Note) -> EnclaveNote:
    """The note's descriptor, with every field inside its bounds."""
    if len(note.desc) != EnclaveNote.size_of:
        raise form.refuse(
            "the note's descriptor has its size",
            expected=f"{EnclaveNote.size_of} bytes",
            found=f"{len(note.desc)} bytes",
            offset=note.offset,
        )
    wanted = EnclaveNote.copy_of(note.desc)
    bounds = (
        (EnclaveNote.version, _VERSION, _VERSION),
        (EnclaveNote.ssaframesize, 1, 64),
        (EnclaveNote.nssa, 1, _MAX_FRAMES),
        (EnclaveNote.threads, 1, _MAX_THREADS),
        (EnclaveNote.stack_pages, 1, _MAX_PAGES),
        (EnclaveNote.heap_pages, 0, _MAX_PAGES),
    )
    for limit, low, high in bounds:
        value = limit.read(wanted.buffer)
        if not low <= value <= high:
            raise form.refuse(
                f"the note's {limit.name} is in its bounds",
                expected=f"{low} to {high}" if low != high else str(low),
                found=str(value),
                offset=note.offset + limit.offset,
            )
    if not wanted.attributes & Attributes.MODE64BIT or wanted.attributes & Attributes.INIT:
        raise form.refuse(
            "the note asks for a 64-bit enclave that is not yet initialised",
            expected="attributes with MODE64BIT (4) and without INIT (1)",
            found=f"{wanted.attributes:#x}",
            offset=note.offset + EnclaveNote.attributes.offset,
        )
    if wanted.xfrm & 3 != Xfrm.X87 | Xfrm.SSE:
        raise form.refuse(
            "the note asks for x87 and SSE state",
            expected="xfrm with bits 0 and 1",
            found=f"{wanted.xfrm:#x}",
            offset=note.offset + EnclaveNote.xfrm.offset,
        )
    reserved = wanted.first_nonzero_reserved()
    if reserved is not None:
        raise form.refuse(
            "the note's reserved bytes are zero",
            expected="0",
            found=f"{wanted.buffer[reserved[1]]:#x}",
            offset=note.offset + reserved[1],
        )
    return wanted


def _checked_segments(form: Format, elf: ElfImage) -> tuple[Segment, ...]:
    """The segments to load: ascending, each on pages of its own, none writable and executable."""
    if elf.type != ET_DYN:
        raise form.refuse(
            "the file is position independent",
            expected=f"type {ET_DYN} (DYN)",
            found=str(elf.type),
            offset=16,
        )
    segments = elf.loads()
    if not segments:
        raise form.refuse("the file has something to load", expected="a PT_LOAD", found="none")
    before = 0
    for s in segments:
        if s.first_page < before:
            raise form.refuse(
                f"segment {s.index} starts on a page behind the segment before it",
                expected=f"an address of at least {before:#x}",
                found=f"{s.vaddr:#x}",
                offset=s.header_offset + 16,
            )
        if s.flags & ~(PF_R | PF_W | PF_X) or not s.flags & PF_R or (s.flags & PF_W and s.flags & PF_X):
            raise form.refuse(
                f"segment {s.index} is readable, and not writable and executable at once",
                expected="flags R, RW or RX",
                found=f"{s.flags:#x}",
                offset=s.header_offset + 4,
            )
        before = s.pages_end
    if not any(s.flags & PF_X and s.vaddr <= elf.entry < s.vaddr + s.memsz for s in segments):
        raise form.refuse(
            "the entry point lies in an executable segment",
            expected="such an address",
            found=f"{elf.entry:#x}",
            offset=24,
        )
    return segments


def _check_linking(form: Format, elf: ElfImage, segments: tuple[Segment, ...]) -> None:
    """Nothing asks for a dynamic linker: what the loader does not do, nobody does before it is measured."""
    for s in elf.segments:
        if s.type in (PT_INTERP, PT_TLS):
            raise form.refuse(
                "the file needs neither an interpreter nor ELF thread-local storage",
                expected="no PT_INTERP and no PT_TLS",
                found=f"segment {s.index} of type {s.type}",
                offset=s.header_offset,
                remedy="link with -static-pie -nostdlib",
            )
    dynamic = elf.dynamic()
    for tag, what in (
        (_DT_NEEDED, "a library (DT_NEEDED)"),
        (_DT_REL, "REL relocations (DT_REL)"),
        (_DT_JMPREL, "PLT relocations (DT_JMPREL)"),
        (_DT_RELR, "packed relocations (DT_RELR)"),
        (_DT_TEXTREL, "relocations in text (DT_TEXTREL)"),
    ):
        if tag in dynamic:
            raise form.refuse("the file needs no dynamic linker", expected=f"no {what}", found=f"tag {tag}")
    for r in elf.relocations(dynamic[_DT_RELA], dynamic.get(_DT_RELASZ, 0)) if _DT_RELA in dynamic else ():
        inside = any(
            s.flags & PF_W and s.vaddr <= r.target and r.target + 8 <= s.vaddr + s.memsz for s in segments
        )
        if r.type != R_X86_64_NONE and (r.type != R_X86_64_RELATIVE or not inside):
            raise form.refuse(
                "each relocation is one that entry code can apply to itself",
                expected=f"type {R_X86_64_RELATIVE} (RELATIVE) in a writable segment",
                found=f"type {r.type} at {r.target:#x}",
                offset=r.where,
            )


def region(data: memoryview, s: Segment) -> Iterator[PageRun]:
    """The measured pages of one segment: its bytes at ``p_vaddr``, zeros around. Whole pages are not copied."""
    name = f"segment {s.index}"
    flags = secinfo_flags(PageType.REG, permissions(s.flags))

    def run(offset: int, content: memoryview | None, count: int) -> PageRun:
        return PageRun(Offset(offset), count, flags, True, content, name=name)

    at = s.first_page
    taken = 0
    lead = s.vaddr - at
    if s.filesz and lead:
        taken = min(PAGE_SIZE - lead, s.filesz)
        page = bytearray(PAGE_SIZE)
        page[lead : lead + taken] = data[s.offset : s.offset + taken]
        yield run(at, memoryview(page), 1)
        at += PAGE_SIZE
    whole = (s.filesz - taken) // PAGE_SIZE
    if whole:
        start = s.offset + taken
        yield run(at, data[start : start + whole * PAGE_SIZE], whole)
        at += whole * PAGE_SIZE
        taken += whole * PAGE_SIZE
    if taken < s.filesz:
        page = bytearray(PAGE_SIZE)
        page[: s.filesz - taken] = data[s.offset + taken : s.offset + s.filesz]
        yield run(at, memoryview(page), 1)
        at += PAGE_SIZE
    if at < s.pages_end:
        yield run(at, None, (s.pages_end - at) // PAGE_SIZE)


def _layout(note: EnclaveNote, image_end: int) -> Iterator[tuple[str, int, int]]:
    """``(name, offset, end)`` of what follows the image; holes of one page catch overflows."""
    at = image_end + PAGE_SIZE

    def place(name: str, pages: int) -> tuple[str, int, int]:
        nonlocal at
        start = at
        at += pages * PAGE_SIZE
        return name, start, at

    if note.heap_pages:
        yield place("heap", note.heap_pages)
        at += PAGE_SIZE
    for i in range(note.threads):
        yield place(f"stack {i}", note.stack_pages)
        at += PAGE_SIZE
        yield place(f"tcs {i}", 1)
        yield place(f"ssa {i}", note.nssa * note.ssaframesize)
        at += PAGE_SIZE
        yield place(f"thread {i}", 1)
        at += PAGE_SIZE


def _tcs_page(note: EnclaveNote, entry: int, places: dict[str, int], number: str) -> memoryview:
    base = places[f"thread {number}"]
    return Tcs.of(
        ossa=places[f"ssa {number}"],
        nssa=note.nssa,
        oentry=entry,
        ofsbase=base,
        ogsbase=base,
        fslimit=_LIMIT,
        gslimit=_LIMIT,
    ).buffer


def _thread_page(note: EnclaveNote, size: int, places: dict[str, int], number: str) -> memoryview:
    bottom = places[f"stack {number}"]
    return ThreadPage.of(
        self_offset=places[f"thread {number}"],
        stack_top=bottom + note.stack_pages * PAGE_SIZE,
        stack_bottom=bottom,
        index=int(number),
        ssa=places[f"ssa {number}"],
        ssa_frame=note.ssaframesize * PAGE_SIZE,
        heap=places.get("heap", 0),
        heap_size=note.heap_pages * PAGE_SIZE,
        enclave_size=size,
    ).buffer
