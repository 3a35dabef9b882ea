"""The Linux selftest's ``test_encl.elf``: segments are file ranges, the first holds TCS pages."""

from __future__ import annotations

from swsgx.image.elf import ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, ElfImage, permissions
from swsgx.image.errors import Format
from swsgx.image.plan import MIN_SIZE, LoadPlan, PageRun
from swsgx.isa.address import PAGE_SIZE, Offset
from swsgx.isa.flags import Attributes, PageType, SecinfoFlags, Xfrm, secinfo_flags

__all__ = ["DEFAULT_HEAP", "is_selftest", "selftest_plan"]

#: Bytes of heap that the selftest gives an enclave when the test does not ask for more.
DEFAULT_HEAP = PAGE_SIZE
_SOURCE = "Linux 6.12, tools/testing/selftests/sgx/load.c, encl_load"


def is_selftest(elf: ElfImage) -> bool:
    """Whether the first PT_LOAD is readable and writable only, as the selftest's TCS segment must be."""
    loads = elf.loads()
    return bool(loads) and loads[0].flags == PF_R | PF_W


def selftest_plan(elf: ElfImage, heap_size: int = DEFAULT_HEAP) -> LoadPlan:
    """The plan that the selftest's loader carries out.

    Offsets in the enclave are offsets in the file, less that of the first segment; all of a segment's pages
    are measured, with whatever the file has behind its last byte; an unmeasured heap follows.

    Args:
        elf: the file; :func:`is_selftest` is true of it.
        heap_size: bytes, whole pages.

    Raises:
        ImageError: the file breaks a rule of the convention.
    """
    form = Format(elf.form.file, "selftest ELF", _SOURCE)
    if heap_size % PAGE_SIZE or heap_size < 0:
        raise form.refuse(
            "the heap is whole pages", expected=f"a multiple of {PAGE_SIZE}", found=str(heap_size)
        )
    if elf.type not in (ET_EXEC, ET_DYN):
        raise form.refuse(
            "the file is linked", expected="type EXEC (2) or DYN (3)", found=str(elf.type), offset=16
        )
    segments = elf.loads()
    if not segments or segments[0].flags != PF_R | PF_W:
        raise form.refuse(
            "the first PT_LOAD holds the TCS pages",
            expected="flags RW",
            found=segments[0].rwx if segments else "no PT_LOAD",
            offset=segments[0].header_offset + 4 if segments else None,
        )
    origin = segments[0].offset - segments[0].offset % PAGE_SIZE
    runs: list[PageRun] = []
    end = 0
    for number, s in enumerate(segments):
        if s.flags & ~(PF_R | PF_W | PF_X):
            raise form.refuse(
                f"segment {s.index} has known flags",
                expected="R, W, X",
                found=f"{s.flags:#x}",
                offset=s.header_offset + 4,
            )
        start = s.offset - s.offset % PAGE_SIZE
        size = -(-s.filesz // PAGE_SIZE) * PAGE_SIZE
        if start < origin or start - origin < end:
            raise form.refuse(
                f"segment {s.index} follows the segment before it in the file",
                expected=f"an offset of at least {origin + end:#x}",
                found=f"{s.offset:#x}",
                offset=s.header_offset + 8,
            )
        end = start - origin + size
        if not size:
            continue
        flags = secinfo_flags(PageType.REG, permissions(s.flags)) if number else secinfo_flags(PageType.TCS)
        content = elf.data[start : start + size]
        if len(content) < size:
            if len(content) <= size - PAGE_SIZE:
                raise form.refuse(
                    f"the file covers the pages of segment {s.index}",
                    expected=f"more than {start + size - PAGE_SIZE:#x} bytes",
                    found=f"{len(elf.data):#x} bytes",
                    offset=s.header_offset + 32,
                )
            # A file mapping reads as zero from the end of the file to the end of its last page.
            content = memoryview(bytes(content) + bytes(size - len(content)))
        name = f"segment {s.index}" if number else "tcs"
        runs.append(PageRun(Offset(start - origin), size // PAGE_SIZE, flags, True, content, name=name))
    if heap_size:
        flags = secinfo_flags(PageType.REG, SecinfoFlags.R | SecinfoFlags.W)
        runs.append(PageRun(Offset(end), heap_size // PAGE_SIZE, flags, False, None, name="heap"))
    size = max(MIN_SIZE, 1 << (end + heap_size - 1).bit_length())
    tcs = tuple(Offset(r.offset + i * PAGE_SIZE) for r in runs if r.name == "tcs" for i in range(r.count))
    attributes, xfrm = Attributes.MODE64BIT, Xfrm.X87 | Xfrm.SSE
    plan = LoadPlan(form.file, "selftest", size, 1, tuple(runs), tcs, int(attributes), int(xfrm), 0)
    plan.validate()
    return plan
