"""Finding CPUID in program files: what is an instruction is found, what only has its bytes is not."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from hypothesis import given
from hypothesis import strategies as st

from swsgx.isa.cpuid import CpuModel, overrides
from swsgx.supervisor import cpuid_sites
from swsgx.supervisor.cpuid_sites import CPUID, addresses, pack_overrides, sites, skipped, soname
from tests.make.supervised import compiled

# Labels tell where the instructions are; decoys have the two bytes in an immediate, a displacement, a jump's distance.
SOURCE = r"""
#include <stdint.h>
#include <stdio.h>

__attribute__((noinline)) uint32_t leaf_7(uint32_t leaf)
{
        uint32_t a = leaf, b, c = 0, d;

        __asm__ volatile(".globl site_1\nsite_1: cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        return b ^ c ^ d;
}

__attribute__((noinline)) uint64_t decoys(uint64_t x)
{
        uint64_t y;

        __asm__ volatile("mov $0x1111a20f, %%eax\n\t"
                         "mov $0xa20f11111111a20f, %%rax\n\t"
                         "lea 0xa20f00(%1), %0\n\t"
                         "cmpw $0xa20f, %%ax\n\t"
                         "movl $0xa20f, -8(%%rsp)\n\t"
                         ".byte 0x66, 0x66, 0x0f, 0x1f, 0x84, 0x00, 0x0f, 0xa2, 0, 0\n\t" /* nop 0xa20f(...) */
                         : "=&r"(y)
                         : "r"(x)
                         : "rax", "cc");
        return y;
}

__attribute__((noinline)) uint32_t twice(void)
{
        uint32_t a = 0x12, b, c = 2, d, sum;

        __asm__ volatile(".globl site_2\nsite_2: cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        sum = a + b;
        a = 0;
        __asm__ volatile(".globl site_3\nsite_3: cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        return sum + b + d;
}

/* Code as good as any, but data: the bytes of mov eax, 7; xor ecx, ecx; cpuid; mov eax, ebx; ret, many times. */
#define FALSE_CODE 0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0xd8, 0xc3
const volatile uint8_t table[] = { FALSE_CODE, FALSE_CODE, FALSE_CODE, FALSE_CODE, FALSE_CODE, FALSE_CODE, FALSE_CODE };

int main(int argc, char **argv)
{
        (void)argv;
        printf("%u\n", leaf_7(7) + (uint32_t)decoys(argc) + twice() + table[argc]);
        return 0;
}
"""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What one test has seen is not remembered in the next."""
    cpuid_sites._known.clear()
    yield
    cpuid_sites._known.clear()


def labelled(program: Path) -> tuple[int, ...]:
    """File offsets of the labels ``site_N``."""
    with program.open("rb") as file:
        elf = ELFFile(file)
        found = []
        for table in (s for s in elf.iter_sections() if isinstance(s, SymbolTableSection)):
            for symbol in table.iter_symbols():
                if symbol.name.startswith("site_"):
                    found += list(elf.address_offsets(symbol["st_value"]))[:1]
    return tuple(sorted(set(found)))


def elf_file(path: Path, code: bytes, entry: int) -> Path:
    """A program without sections: its headers, and ``code`` at the next page, address 0x401000."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        2,
        62,
        1,
        0x401000 + entry,
        64,
        0,
        0,
        64,
        56,
        1,
        0,
        0,
        0,
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 4096, 0x401000, 0, len(code), len(code), 4096)
    path.write_bytes((header + segment).ljust(4096, b"\0") + code)
    return path


#: mov eax, 7; xor ecx, ecx; cpuid; mov eax, ebx; and eax, 4; ret
ENTRY = bytes.fromhex("b807000000 31c9 0fa2 89d8 83e004 c3")


@pytest.mark.parametrize(
    "flags",
    [
        ["-O0"],
        ["-O2"],
        ["-O2", "-static"],
        ["-O2", "-no-pie", "-Wl,-z,noseparate-code"],
        ["-O2", "-fno-asynchronous-unwind-tables", "-Wl,--no-eh-frame-hdr"],
    ],
    ids=" ".join,
)
def test_instructions_are_found_and_their_bytes_elsewhere_are_not(flags: list[str], tmp_path: Path) -> None:
    program = compiled(SOURCE, tmp_path, *flags)
    expected = labelled(program)
    assert len(expected) == 3
    found = sites(str(program))
    assert set(expected) <= set(found)
    if "-static" in flags:  # glibc's own are found too
        assert len(found) > 20
    else:
        assert found == expected
    contents = program.read_bytes()
    assert contents.count(CPUID) > len(found) + 10
    assert all(contents[offset : offset + 2] == CPUID for offset in found)


def test_a_stripped_program_keeps_its_unwind_information(tmp_path: Path) -> None:
    program = compiled(SOURCE, tmp_path, "-O2")
    expected = labelled(program)
    subprocess.run(["strip", "-s", program], check=True)
    assert sites(str(program)) == expected


def test_without_unwind_information_and_symbols_nothing_is_found_that_is_not_there(tmp_path: Path) -> None:
    program = compiled(SOURCE, tmp_path, "-O2", "-fno-asynchronous-unwind-tables", "-Wl,--no-eh-frame-hdr")
    expected = labelled(program)
    subprocess.run(["strip", "-s", program], check=True)
    found = set(sites(str(program)))
    assert found
    assert found <= set(expected)


def test_a_file_descriptor_serves_as_well_as_a_path(tmp_path: Path) -> None:
    program = compiled(SOURCE, tmp_path, "-O2")
    with program.open("rb") as file:
        file.seek(100)
        assert sites(file.fileno()) == labelled(program)
        assert file.tell() == 100


def test_an_answer_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = elf_file(tmp_path / "program", ENTRY, 0)
    assert sites(str(program)) == (4096 + 7,)
    with monkeypatch.context() as broken:
        broken.setattr(cpuid_sites, "_Elf", None)
        assert sites(str(program)) == (4096 + 7,)
    elf_file(program, b"\x90" + ENTRY, 0)
    assert sites(str(program)) == (4096 + 8,)


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpuid_sites, "_REMEMBERED", 2)
    for name in "abc":
        sites(str(elf_file(tmp_path / name, ENTRY, 0)))
    assert len(cpuid_sites._known) == 2


@pytest.mark.parametrize("distance", range(-9, 2))
def test_an_instruction_may_lie_across_the_borders_of_the_search(distance: int, tmp_path: Path) -> None:
    at = cpuid_sites._CHUNK + distance
    program = elf_file(tmp_path / "program", b"\xcc" * at + ENTRY, at)
    assert sites(str(program)) == (4096 + at + 7,)


def test_many_bytes_that_are_half_of_it_do_not_hide_it(tmp_path: Path) -> None:
    program = elf_file(tmp_path / "program", b"\xa2" * 20000 + ENTRY, 20000)
    assert sites(str(program)) == (4096 + 20007,)


def test_data_behind_the_entry_point_is_not_taken_for_code(tmp_path: Path) -> None:
    data = bytes.fromhex("3d2a0fa21b00110055000000ff9b")
    assert sites(str(elf_file(tmp_path / "program", ENTRY + data, 0))) == (4096 + 7,)


def test_the_decoder_is_not_loaded_for_a_program_without_candidates(checkout: Path, tmp_path: Path) -> None:
    program = elf_file(tmp_path / "program", b"\x90" * 100, 0)
    check = (
        "import sys; from swsgx.supervisor.cpuid_sites import sites;"
        "print(sites(sys.argv[1]), [m for m in ('iced_x86', 'elftools', 'numpy', 'swsgx.isa') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, program],
        env={"PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "() []\n"


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled(SOURCE, tmp_path_factory.mktemp("contents"), "-O2").read_bytes()


def answers(data: bytes) -> None:
    """No exception, and nothing that is not in the file."""
    fd = os.memfd_create("hostile")
    try:
        os.write(fd, data)
        assert all(data[offset : offset + 2] == CPUID for offset in sites(fd))
        soname(fd)
    finally:
        os.close(fd)


@given(st.data())
def test_a_cut_file_is_no_reason_to_fail(contents: bytes, data: st.DataObject) -> None:
    answers(contents[: data.draw(st.integers(0, len(contents)))])


@given(st.data())
def test_a_spoilt_file_is_no_reason_to_fail(contents: bytes, data: st.DataObject) -> None:
    """Bytes that matter are changed more often: headers, the tables of unwinding, sections."""
    spoilt = bytearray(contents)
    elf = struct.unpack_from("<16sHHIQQQIHHHHHH", contents)
    headers = [struct.unpack_from("<IIQQQQQQ", contents, elf[5] + 56 * i) for i in range(elf[10])]
    unwinding = next(header[2] for header in headers if header[0] == 0x6474E550)
    starts = [0, elf[5], elf[6], unwinding, *(header[2] for header in headers)]
    for _ in range(data.draw(st.integers(1, 20))):
        at = data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, 1200))
        patch = data.draw(st.sampled_from([b"\0", b"\xff", b"\xff" * 8, b"\x7f", b"\x80" * 16, CPUID]))
        at = min(at, len(spoilt) - len(patch))
        spoilt[at : at + len(patch)] = patch
    answers(bytes(spoilt))


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_can_be_code(code: bytes, entry: int) -> None:
    fd = os.memfd_create("elf")
    try:
        elf_file(Path(f"/proc/self/fd/{fd}"), code + CPUID + code, entry)
        assert set(sites(fd)) <= {
            4096 + at for at in range(2 * len(code) + 1) if (code + CPUID + code)[at : at + 2] == CPUID
        }
    finally:
        os.close(fd)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("fill", [b"\x0f\xa2", b"\xa2", b"\x90", b"\x0f"], ids=bytes.hex)
def test_a_large_hostile_file_takes_little_time(fill: bytes, tmp_path: Path) -> None:
    program = elf_file(tmp_path / "program", fill * ((8 << 20) // len(fill)), 0)
    assert sites(str(program)) == ()


@pytest.mark.timeout(20)
def test_many_segments_of_the_same_bytes_are_searched_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpuid_sites, "_SEARCHED", 16 << 20)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1000, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0, 1 << 40, 1 << 40, 4096)
    program = tmp_path / "program"
    program.write_bytes(header + segment * 1000)
    os.truncate(program, 1 << 40)
    assert sites(str(program)) == ()


def test_what_is_no_program_has_no_sites(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("#!/bin/sh\n")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "text", tmp_path / "none", Path("/dev/null")):
        assert sites(str(path)) == ()
        assert soname(str(path)) is None
    assert sites(-1) == ()
    assert sites("a\0b") == ()


def test_a_library_says_its_name(tmp_path: Path) -> None:
    library = compiled("int f(void) { return 1; }", tmp_path, "-shared", "-fPIC", "-Wl,-soname,libf.so.3")
    assert soname(str(library)) == "libf.so.3"
    assert soname(str(compiled("int main(void) { return 0; }", tmp_path, name="main"))) is None


def test_libraries_that_never_look_for_sgx_are_skipped_and_nothing_else() -> None:
    assert skipped("libc.so.6")
    assert skipped("ld-linux-x86-64.so.2")
    assert not skipped("libsgx_urts.so")
    assert not skipped("libc.so")


def test_offsets_become_addresses_in_a_mapping() -> None:
    offsets = (0xFFF, 0x1000, 0x17FE, 0x1FFE, 0x1FFF, 0x2000)
    assert addresses(offsets, 0x7000_0000, 0x7000_1000, 0x1000) == (0x7000_0000, 0x7000_07FE, 0x7000_0FFE)


def test_overrides_are_packed_as_c_reads_them() -> None:
    packed = pack_overrides(0x12, overrides(CpuModel.with_sgx2()))
    assert struct.unpack_from("<II", packed) == (0x12, 4)
    assert len(packed) == 8 + 4 * 40
    assert struct.unpack_from("<10I", packed, 8)[:2] == (7, 0)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("entry", [0, 1 << 30], ids=["one function", "no function"])
@pytest.mark.parametrize("count", [500, 60000])
def test_many_instructions_that_only_look_like_it_take_little_time(
    count: int, entry: int, tmp_path: Path
) -> None:
    program = elf_file(tmp_path / "program", (ENTRY + b"\x90" * 500) * count, entry)
    assert len(sites(str(program))) <= 512
