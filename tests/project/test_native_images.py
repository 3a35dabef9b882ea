"""The built C images can be put anywhere in a process: no relocation, nothing undefined, nothing both W and X.

The image of supervised programs is also a vDSO, for all who read one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.constants import P_FLAGS
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerSymSection
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section, StringTableSection, SymbolTableSection

_FOLDER = Path(__file__).resolve().parents[2] / "src/swsgx/native/images"
#: What the kernel's vDSO exports, all at version LINUX_2.6.
_VDSO = {
    "__vdso_sgx_enter_enclave",
    *(
        prefix + name
        for name in ("gettimeofday", "time", "clock_gettime", "clock_getres", "getcpu", "getrandom")
        for prefix in ("", "__vdso_")
    ),
}
_PAGE_SIZE = 4096
_RBX, _RBP, _RSP = 3, 6, 7
_Kind = TypeVar("_Kind", bound=Section)


def _images() -> list[Path]:
    elfs = []
    for path in sorted(_FOLDER.glob("*")) if _FOLDER.is_dir() else []:
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                elfs.append(path)
    return elfs


@pytest.fixture(params=_images(), ids=lambda path: path.name)
def image(request: pytest.FixtureRequest) -> Path:
    """Each ELF file that the wheel carries."""
    path: Path = request.param
    return path


@pytest.fixture
def target() -> Iterator[ELFFile]:
    """The image that supervised programs get."""
    with (_FOLDER / "swsgx-target.so").open("rb") as file:
        yield ELFFile(file)


def _section(elf: ELFFile, kind: type[_Kind], name: str) -> _Kind:
    section = elf.get_section_by_name(name)
    assert isinstance(section, kind)
    return section


def test_images_were_built() -> None:
    names = {path.name for path in _images()}
    assert names == {"swsgx-monitor.so", "swsgx-target.so"}, "run: make -C native"


def test_image_has_no_relocation(image: Path) -> None:
    with image.open("rb") as file:
        elf = ELFFile(file)
        sections = [s for s in elf.iter_sections() if isinstance(s, RelocationSection)]
        assert {s.name: s.num_relocations() for s in sections if s.num_relocations()} == {}
        for dynamic in (s for s in elf.iter_sections() if isinstance(s, DynamicSection)):
            tags = {tag.entry.d_tag for tag in dynamic.iter_tags()}
            assert tags & {"DT_REL", "DT_RELA", "DT_JMPREL", "DT_TEXTREL", "DT_RELR"} == set()


def test_image_has_no_undefined_symbol_and_needs_no_library(image: Path) -> None:
    with image.open("rb") as file:
        elf = ELFFile(file)
        for table in (s for s in elf.iter_sections() if isinstance(s, SymbolTableSection)):
            undefined = [s.name for s in table.iter_symbols() if s.name and s["st_shndx"] == "SHN_UNDEF"]
            assert undefined == []
        for dynamic in (s for s in elf.iter_sections() if isinstance(s, DynamicSection)):
            assert list(dynamic.iter_tags("DT_NEEDED")) == []
        assert [s for s in elf.iter_segments() if s["p_type"] == "PT_INTERP"] == []


def test_image_has_no_segment_that_is_writable_and_executable(image: Path) -> None:
    both = P_FLAGS.PF_W | P_FLAGS.PF_X
    with image.open("rb") as file:
        for segment in ELFFile(file).iter_segments():
            assert segment["p_flags"] & both != both, segment.header


def test_target_has_one_segment_to_load_whose_offsets_are_addresses(target: ELFFile) -> None:
    """To glibc, the first address that is not 0 is where a vDSO was linked; musl and Go add offsets to the base."""
    loads = [s for s in target.iter_segments() if s["p_type"] == "PT_LOAD"]
    assert [(s["p_offset"], s["p_vaddr"], s["p_flags"]) for s in loads] == [
        (0, 0, P_FLAGS.PF_R | P_FLAGS.PF_X)
    ]
    for segment in target.iter_segments():
        if segment["p_type"] in ("PT_DYNAMIC", "PT_GNU_EH_FRAME"):
            assert segment["p_offset"] == segment["p_vaddr"]
            assert segment["p_vaddr"] + segment["p_memsz"] <= loads[0]["p_memsz"]


def test_data_of_target_follow_its_file_and_are_zero(target: ELFFile) -> None:
    (data,) = (s for s in target.iter_segments() if s["p_flags"] & P_FLAGS.PF_W)
    assert data["p_flags"] == P_FLAGS.PF_R | P_FLAGS.PF_W
    assert data["p_filesz"] == 0
    assert data["p_vaddr"] % _PAGE_SIZE == 0
    assert data["p_vaddr"] >= (_FOLDER / "swsgx-target.so").stat().st_size
    assert [s.name for s in target.iter_sections() if s["sh_addr"] >= data["p_vaddr"]] == [".bss"]


def test_target_has_name_hashes_and_unwinding_of_a_vdso(target: ELFFile) -> None:
    dynamic = _section(target, DynamicSection, ".dynamic")
    names = _section(target, StringTableSection, ".dynstr")
    assert [names.get_string(tag["d_val"]) for tag in dynamic.iter_tags("DT_SONAME")] == ["linux-vdso.so.1"]
    assert {tag.entry.d_tag for tag in dynamic.iter_tags()} >= {
        "DT_HASH",
        "DT_GNU_HASH",
        "DT_VERDEF",
        "DT_VERSYM",
    }
    assert [s["p_type"] for s in target.iter_segments() if s["p_type"] == "PT_GNU_EH_FRAME"] != []


def test_target_exports_the_kernels_names_at_the_kernels_version(target: ELFFile) -> None:
    versions = {1: "the image"}
    definitions = _section(target, GNUVerDefSection, ".gnu.version_d")
    indices = _section(target, GNUVerSymSection, ".gnu.version")
    for definition, names in definitions.iter_versions():
        versions[definition["vd_ndx"]] = next(iter(names)).name
    exported = {}
    for number, symbol in enumerate(_section(target, SymbolTableSection, ".dynsym").iter_symbols()):
        if symbol.name and symbol["st_shndx"] != "SHN_ABS":  # the version itself is one
            exported[symbol.name] = versions[indices.get_symbol(number)["ndx"]]
            bind = "STB_GLOBAL" if symbol.name.startswith("__vdso_") else "STB_WEAK"
            assert (symbol["st_info"]["type"], symbol["st_info"]["bind"]) == ("STT_FUNC", bind)
            assert symbol["st_size"] > 0
    assert exported == dict.fromkeys(_VDSO, "LINUX_2.6")


def _unwinding(target: ELFFile) -> dict[int, FDE]:
    entries = target.get_dwarf_info().EH_CFI_entries()
    return {e.header["initial_location"]: e for e in entries if isinstance(e, FDE)}


def test_each_function_of_target_can_be_unwound_from_its_first_byte_to_its_last(target: ELFFile) -> None:
    unwinding = _unwinding(target)
    for symbol in _section(target, SymbolTableSection, ".dynsym").iter_symbols():
        if symbol.name in _VDSO:
            entry = unwinding[symbol["st_value"]]
            assert entry.header["address_range"] >= symbol["st_size"]
            first = entry.get_decoded().table[0]
            assert (first["pc"], first["cfa"].reg, first["cfa"].offset) == (symbol["st_value"], _RSP, 8)


def test_unwinding_of_enter_enclave_changes_behind_each_instruction_that_changes_the_frame(
    target: ELFFile,
) -> None:
    symbols = _section(target, SymbolTableSection, ".dynsym").iter_symbols()
    (address,) = (s["st_value"] for s in symbols if s.name == "__vdso_sgx_enter_enclave")
    text = _section(target, Section, ".text")
    code = text.data()[address - text["sh_addr"] :]
    expected = [
        ("", _RSP, 8, None, None),
        ("55", _RSP, 16, -16, None),  # push rbp
        ("4889e5", _RBP, 16, -16, None),  # mov rbp, rsp
        ("53", _RBP, 16, -16, -24),  # push rbx
        ("5b", _RBP, 16, -16, None),  # pop rbx
        ("c9", _RSP, 8, None, None),  # leave
        ("c3", _RBP, 16, -16, -24),  # ret; what follows is jumped to from above
    ]
    rows = []
    for row, (instruction, *_) in zip(_unwinding(target)[address].get_decoded().table, expected, strict=True):
        at = row["pc"] - address
        before = code[at - len(instruction) // 2 : at].hex()
        saved = [row[r].arg if r in row and row[r].type == "OFFSET" else None for r in (_RBP, _RBX)]
        rows.append((before, row["cfa"].reg, row["cfa"].offset, *saved))
    assert rows == expected


def test_headers_are_what_the_python_tables_say(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tools/gen_headers.py", "--check"],
        cwd=checkout,
        env={"PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python tools/gen_headers.py"
