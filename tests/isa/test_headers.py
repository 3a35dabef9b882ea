"""The generator of C headers: what it prints compiles, and what it cannot print it refuses."""

from __future__ import annotations

import shutil
import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path
from types import ModuleType

import pytest

from swsgx.isa.layout import Layout, octets, sub, u8, u32, u64, zero
from tools import gen_headers

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt-get install gcc")


class Inner(Layout, size=4, align=4, source="test"):
    """Inside (with a trap: */)."""

    x = u32(0)


class AnOuter(Layout, size=32, align=16, source="test"):
    """Outside."""

    inner = sub(0, Inner)
    b = u8(4, "a byte, */ and a trap")
    gap = zero(5, 3)
    many = octets(8, 16)
    last = u64(24)


class Colour(IntEnum):
    """Colours."""

    RED = 1
    NEGATIVE = -2


class LampState(IntFlag):
    """Lamps."""

    ON = 1
    BRIGHT = 1 << 63


def _module(**names: object) -> ModuleType:
    module = ModuleType(__name__)
    vars(module).update(names)
    return module


def _header(module: ModuleType, prefixes: dict[str, str] | None = None) -> str:
    header = gen_headers.Header("TEST_H", "A test.", {})
    gen_headers.fill(header, module, prefixes or {}, {})
    return header.text()


def _compiles(tmp_path: Path, include: Path, name: str, source: str, *flags: str) -> None:
    file = tmp_path / name
    file.write_text(source)
    command = [
        "cc",
        "-Wall",
        "-Wextra",
        "-Werror",
        *flags,
        f"-I{include}",
        "-c",
        str(file),
        "-o",
        str(file) + ".o",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_cc
@pytest.mark.parametrize(
    "flags", [("-std=c11", "-Wpedantic"), ("-std=gnu17",), ("-m64", "-mno-sse", "-mgeneral-regs-only")]
)
def test_both_headers_compile_without_a_warning_and_twice(
    tmp_path: Path, checkout: Path, flags: tuple[str, ...]
) -> None:
    source = '#include "abi.h"\n#include "isa.h"\n#include "abi.h"\nint f(void) { return GPRSGX_RIP; }\n'
    _compiles(tmp_path, checkout / "native/include", "t.c", source, "-ffreestanding", *flags)


@needs_cc
def test_both_headers_can_be_used_from_assembly(tmp_path: Path, checkout: Path) -> None:
    names = "TCS_OSSA, SIZEOF_TCS, ENCLU_EEXIT, SGX_ERR_INVALID_SIGNATURE, VMA_R, SECINFO_RESERVED"
    source = f'#include "abi.h"\n.quad {names}\n'
    _compiles(tmp_path, checkout / "native/include", "t.S", source)


@needs_cc
def test_the_compiler_finds_the_offsets_that_python_declares(tmp_path: Path) -> None:
    """The structure comes before what it contains, and is sorted behind it."""
    module = _module(AnOuter=AnOuter, Inner=Inner, Colour=Colour, LampState=LampState, LIMIT=5000, _HIDDEN=1)
    (tmp_path / "t.h").write_text(_header(module))
    source = """#include "t.h"
        _Static_assert(COLOUR_NEGATIVE == -2 && LAMP_BRIGHT == 1ull << 63 && LIMIT == 5000, "");
        _Static_assert(SIZEOF_AN_OUTER == 32 && AN_OUTER_MANY == 8 && AN_OUTER_LAST == 24, "");
        _Static_assert(_Alignof(struct swsgx_an_outer) == 16, "");
        """
    _compiles(tmp_path, tmp_path, "t.c", source, "-ffreestanding")


def test_private_names_and_reserved_fields_get_no_constant() -> None:
    text = _header(_module(AnOuter=AnOuter, _HIDDEN=1))
    assert "HIDDEN" not in text
    assert "AN_OUTER_GAP" not in text
    assert "uint8_t gap[3];" in text


@pytest.mark.parametrize(
    ("given", "prefix"),
    [({}, "LAMP_ON"), ({"LampState": "SWITCH"}, "SWITCH_ON")],
)
def test_the_prefix_of_an_enumeration_is_its_name_or_what_the_module_says(
    given: dict[str, str], prefix: str
) -> None:
    assert f"#define {prefix} " in _header(_module(LampState=LampState), given)


def test_one_macro_for_two_things_is_refused() -> None:
    with pytest.raises(SystemExit, match="COLOUR_RED of Colour is already defined"):
        _header(_module(COLOUR_RED=7, Colour=Colour))


def test_a_field_without_a_c_type_is_refused() -> None:
    class Odd(Layout, size=8, align=1, source="test"):
        """Odd."""

        f = u64(0)

    Odd.f.kind = "u128"
    with pytest.raises(SystemExit, match=r"Odd\.f: no C type for kind 'u128'"):
        _header(_module(Odd=Odd))


def test_names_of_the_manuals_tables_are_not_defined_again() -> None:
    assert "SIZEOF_TCS" not in gen_headers.headers()[gen_headers.INCLUDE / "abi.h"]


def test_check_tells_of_a_stale_header_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gen_headers, "ROOT", tmp_path)
    monkeypatch.setattr(gen_headers, "INCLUDE", tmp_path / "include")
    assert gen_headers.main(["--check"]) == 1
    assert "include/isa.h is not what the Python tables say" in capsys.readouterr().out
    assert not (tmp_path / "include").exists()
    assert gen_headers.main([]) == 0
    assert gen_headers.main(["--check"]) == 0
    (tmp_path / "include/abi.h").write_text("changed by hand")
    assert gen_headers.main(["--check"]) == 1
