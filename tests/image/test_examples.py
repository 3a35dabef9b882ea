"""The example enclaves: built here, by their Makefile, and looked at as anybody could."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from swsgx.image.convention import EnclaveNote, ThreadPage
from swsgx.image.elf import PF_W, PF_X, PT_LOAD, ElfImage
from swsgx.image.enclave import load_plan, read_file
from tests.make.examples import NEEDS_TOOLS, build_examples

ENCLAVES = ("compute.elf", "fault.elf")

pytestmark = NEEDS_TOOLS


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_examples(checkout, tmp_path_factory.mktemp("examples"))


def test_two_builds_in_two_places_give_the_same_bytes(checkout: Path, built: Path, tmp_path: Path) -> None:
    again = build_examples(checkout, tmp_path / "elsewhere")
    for name in (*ENCLAVES, "kernel.so"):
        assert (again / name).read_bytes() == (built / name).read_bytes()


@pytest.mark.parametrize("name", ENCLAVES)
def test_an_example_loads_and_measures(built: Path, name: str) -> None:
    plan = load_plan(built / name)
    assert plan.kind == "swsgx"
    assert len(plan.measure().digest()) == 32


@pytest.mark.parametrize("name", ENCLAVES)
def test_an_example_has_no_segment_that_is_writable_and_executable_and_no_relocation(
    built: Path, name: str
) -> None:
    elf = ElfImage(name, read_file(built / name))
    loads = [s for s in elf.segments if s.type == PT_LOAD]
    assert [s.flags & (PF_W | PF_X) for s in loads] == [0, PF_X, PF_W]
    assert 7 not in elf.dynamic()


@pytest.mark.parametrize("name", ENCLAVES)
def test_every_exit_is_mov_and_enclu_inside_one_aligned_word(built: Path, name: str) -> None:
    elf = ElfImage(name, read_file(built / name))
    text = next(s for s in elf.segments if s.type == PT_LOAD and s.flags & PF_X)
    code = bytes(elf.data[text.offset : text.offset + text.filesz])
    exits = [m.start() for m in re.finditer(re.escape(bytes.fromhex("0f01d7")), code)]
    assert len(exits) == 2
    for at in exits:
        assert code[at - 5 : at] == bytes.fromhex("b804000000")
        assert (text.vaddr + at - 5) % 8 == 0


def test_the_header_for_c_has_the_readers_offsets(checkout: Path) -> None:
    text = (checkout / "examples/include/swsgx_enclave.h").read_text()
    defined = {name: int(value) for name, value in re.findall(r"#define THREAD_(\w+) (\d+)", text)}
    fields = {
        "SELF": "self_offset",
        "STACK_TOP": "stack_top",
        "STACK_BOTTOM": "stack_bottom",
        "INDEX": "index",
        "SSA": "ssa",
        "SSA_FRAME": "ssa_frame",
        "HEAP": "heap",
        "HEAP_SIZE": "heap_size",
        "SIZE": "enclave_size",
        "OWN": "own",
    }
    assert defined == {name: vars(ThreadPage)[field].offset for name, field in fields.items()}


def test_the_note_in_c_has_the_readers_fields_in_their_order(checkout: Path) -> None:
    text = (checkout / "examples/include/swsgx_enclave.h").read_text()
    body = text.split("struct swsgx_note {")[1].split("}")[0].split("char name[8];")[1]
    names = re.findall(r"uint(32|64)_t (\w+);", body)
    expected = [(str(8 * f.size), f.name.removesuffix("_60")) for f in EnclaveNote.fields()]
    assert names == expected


def test_the_convention_page_tells_the_same_offsets(checkout: Path) -> None:
    text = (checkout / "docs/enclave-convention.md").read_text()
    table = text.split("## The note")[1].split("## What")[0]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\w+)", table, re.MULTILINE)
    assert [(int(o), int(s)) for o, s, _ in rows] == [(f.offset, f.size) for f in EnclaveNote.fields()]
