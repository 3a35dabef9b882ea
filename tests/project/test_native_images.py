"""The built C images can be put anywhere in a process: no relocation, nothing undefined, nothing both W and X."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.constants import P_FLAGS
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection


def _images() -> list[Path]:
    folder = Path(__file__).resolve().parents[2] / "src/swsgx/native/images"
    elfs = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                elfs.append(path)
    return elfs


@pytest.fixture(params=_images(), ids=lambda path: path.name)
def image(request: pytest.FixtureRequest) -> Path:
    """Each ELF file that the wheel carries."""
    path: Path = request.param
    return path


def test_images_were_built() -> None:
    assert _images(), "no image in src/swsgx/native/images; run: make -C native"


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
            if segment["p_type"] in ("PT_LOAD", "PT_GNU_STACK"):
                assert segment["p_flags"] & both != both, segment.header


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
