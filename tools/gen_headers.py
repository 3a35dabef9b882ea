#!/usr/bin/env python3
"""Print the structures and constants that C shares with Python: ``native/include/isa.h`` and ``abi.h``.

The tables are :mod:`swsgx.isa` and :mod:`swsgx.native.abi`; nothing is written twice. The headers serve C and
assembly: constants, offsets and sizes are plain ``#define``, structures are hidden from the assembler. They
are committed, and a test wants them fresh.

What becomes what:

* a ``Layout`` ``EpcmEntry``: ``struct swsgx_epcm_entry`` (``struct sgx_...`` if it is the manual's), packed, with
  every offset asserted; ``EPCM_ENTRY_STATE`` is the offset of ``state``, ``SIZEOF_EPCM_ENTRY`` the size;
* an ``IntFlag`` or ``IntEnum`` ``VmaBits``: ``VMA_R``, ``VMA_W``, ...: the class's name in capitals without a
  last word State, Bits, Flags, Code or Kind; a module's ``C_PREFIXES = {"VmaBits": "VMA"}`` overrides that;
* a module's public integer in capitals: itself.

Usage: ``gen_headers.py`` writes, ``gen_headers.py --check`` compares and exits 1 where they differ.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum, IntEnum, IntFlag
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "native" / "include"
sys.path.insert(0, str(ROOT / "src"))

from swsgx import isa  # noqa: E402 - the checkout's own, installed or not
from swsgx.isa.layout import Layout  # noqa: E402
from swsgx.native import abi  # noqa: E402

#: Last words of an enumeration's name that say nothing in a prefix.
_DROPPED_WORDS = ("STATE", "BITS", "FLAGS", "CODE", "KIND")

#: Prefixes of the manual's enumerations.
_ISA_PREFIXES = {
    "Attributes": "ATTR",
    "Encls": "ENCLS",
    "Enclu": "ENCLU",
    "ExitType": "EXIT_TYPE",
    "KeyName": "KEYNAME",
    "KeyPolicy": "KEYPOLICY",
    "Miscselect": "MISC",
    "PageFaultCode": "PFEC",
    "PageType": "PT",
    "SgxError": "SGX_ERR",
    "TcsFlags": "TCS_FLAG",
    "Msr": "MSR",
}

#: The manual's constants whose Python name is too general for C.
_ISA_RENAMED = {"PAGE_SIZE": "SGX_PAGE_SIZE"}


def snake(name: str) -> str:
    """``EpcmEntry`` as ``EPCM_ENTRY``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def enum_prefix(cls: type[Enum], given: Mapping[str, str]) -> str:
    """What stands before the members of an enumeration, without the underscore."""
    if cls.__name__ in given:
        return given[cls.__name__]
    words = snake(cls.__name__).split("_")
    if len(words) > 1 and words[-1] in _DROPPED_WORDS:
        words.pop()
    return "_".join(words)


def number(value: int) -> str:
    """A literal that C and the assembler both take: no suffix, hexadecimal from 4096 on."""
    if value < 0:
        return f"({value})"
    return str(value) if value < 4096 else hex(value)


def struct_name(layout: type[Layout]) -> str:
    """``sgx_tcs`` for the manual's, ``swsgx_epcm_entry`` for ours."""
    owner = "sgx" if layout.__module__.startswith("swsgx.isa.") else "swsgx"
    return f"{owner}_{snake(layout.__name__).lower()}"


def comment(text: str) -> str:
    """One line, safe inside a C comment, without the marks of the documentation's markup."""
    plain = re.sub(r":[a-z]+:`~?([^`]*)`", r"\1", text).replace("``", "")
    return " ".join(plain.replace("*/", "* /").split())


class Header:
    """One header in the making; refuses a macro that is there already, with whatever value.

    Args:
        guard: the macro against including it twice.
        about: the sentence at its head.
        taken: macros of headers that this one includes.
    """

    def __init__(self, guard: str, about: str, taken: dict[str, str]) -> None:
        self.guard = guard
        self.about = about
        self.taken = taken
        self.macros: list[str] = []
        self.structs: dict[type[Layout], str] = {}

    def define(self, name: str, value: int, owner: str) -> None:
        """One constant; ``owner`` says in errors where it comes from."""
        if name in self.taken:
            raise SystemExit(
                f"gen_headers: {name} of {owner} is already defined by {self.taken[name]}; rename one"
            )
        self.taken[name] = owner
        self.macros.append(f"#define {name:<32} {number(value)}".rstrip())

    def title(self, text: str) -> None:
        """A line of comment before the constants that follow."""
        self.macros.append(f"\n/* {comment(text)} */")

    def enum(self, cls: type[Enum], prefixes: Mapping[str, str]) -> None:
        """All members of an enumeration, aliases too."""
        self.title((cls.__doc__ or cls.__name__).strip().split("\n")[0])
        prefix = enum_prefix(cls, prefixes)
        for name, member in cls.__members__.items():
            self.define(f"{prefix}_{name}", int(member.value), cls.__name__)

    def layout(self, cls: type[Layout]) -> None:
        """Offsets and size as constants, the structure and its assertions."""
        upper = snake(cls.__name__)
        self.title(f"struct {struct_name(cls)}: {cls.source}")
        self.define(f"SIZEOF_{upper}", cls.size_of, cls.__name__)
        for field in cls.fields():
            if not field.reserved:
                self.define(f"{upper}_{field.name.upper()}", field.offset, f"{cls.__name__}.{field.name}")
        self.structs[cls] = "\n".join(self._struct(cls))

    def ordered(self) -> Iterator[str]:
        """The structures, each behind those that it contains."""
        left = dict(self.structs)

        def emit(cls: type[Layout]) -> Iterator[str]:
            text = left.pop(cls, None)
            if text is not None:
                for field in cls.fields():
                    if field.kind == "sub":
                        yield from emit(vars(field)["layout"])
                yield text

        for cls in self.structs:
            yield from emit(cls)

    def _struct(self, cls: type[Layout]) -> Iterator[str]:
        name = struct_name(cls)
        yield f"/* {comment((cls.__doc__ or name).strip().split(chr(10))[0])} */"
        yield f"struct {name} {{"
        for field in cls.fields():
            note = f" /* {comment(field.doc)} */" if field.doc and not field.reserved else ""
            if field.kind in ("u8", "u16", "u32", "u64"):
                yield f"\tuint{field.kind[1:]}_t {field.name};{note}"
            elif field.kind in ("octets", "reserved"):
                yield f"\tuint8_t {field.name}[{field.size}];{note}"
            elif field.kind == "sub":
                yield f"\tstruct {struct_name(vars(field)['layout'])} {field.name};{note}"
            else:
                raise SystemExit(
                    f"gen_headers: {cls.__name__}.{field.name}: no C type for kind {field.kind!r}"
                )
        aligned = f", aligned({cls.align_of})" if cls.align_of > 1 and cls.size_of % cls.align_of == 0 else ""
        yield f"}} __attribute__((packed{aligned}));"
        yield f'_Static_assert(sizeof(struct {name}) == {cls.size_of}, "size of {name}");'
        for field in cls.fields():
            yield (
                f"_Static_assert(offsetof(struct {name}, {field.name}) == {field.offset}, "
                f'"{name}.{field.name}");'
            )

    def text(self, include: str = "") -> str:
        """The file's contents."""
        lines = [
            "/* SPDX-License-Identifier: Apache-2.0 */",
            f"/* {self.about}",
            " * Written by tools/gen_headers.py from the Python tables; do not edit, edit those. */",
            f"#ifndef {self.guard}",
            f"#define {self.guard}",
        ]
        if include:
            lines += ["", f'#include "{include}"']
        lines += self.macros
        lines += ["", "#ifndef __ASSEMBLER__", "", "#include <stddef.h>", "#include <stdint.h>"]
        for struct in self.ordered():
            lines += ["", struct]
        lines += ["", "#endif /* __ASSEMBLER__ */", "", f"#endif /* {self.guard} */", ""]
        return "\n".join(lines)


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """A module's names in the order of their definition, without private ones."""
    for name, value in vars(module).items():
        if not name.startswith("_"):
            yield name, value


def is_enum(value: object) -> bool:
    """Whether it is an enumeration of integers (and not the base class itself)."""
    return (
        isinstance(value, type) and issubclass(value, IntEnum | IntFlag) and value not in (IntEnum, IntFlag)
    )


def is_layout(value: object) -> bool:
    """Whether it is a structure (and not the base class itself)."""
    return isinstance(value, type) and issubclass(value, Layout) and value is not Layout


def fill(header: Header, module: ModuleType, prefixes: Mapping[str, str], renamed: Mapping[str, str]) -> None:
    """Put a module's constants, enumerations and structures into a header; what others define stays with them."""
    own = module.__name__
    header.title(f"constants of {own}")
    for name, value in public(module):
        if type(value) is int and name.isupper() and (module is isa or name not in vars(isa)):
            header.define(renamed.get(name, name), value, own)
    for _, value in public(module):
        if isinstance(value, type) and value.__module__.startswith(own):
            if is_enum(value):
                header.enum(value, prefixes)
            elif is_layout(value):
                header.layout(value)


def headers() -> dict[Path, str]:
    """Each header's path and contents."""
    taken: dict[str, str] = {}
    first = Header("SWSGX_ISA_H", "The manual's structures, leaf numbers, flags and error codes.", taken)
    fill(first, isa, _ISA_PREFIXES, _ISA_RENAMED)
    second = Header("SWSGX_ABI_H", "What Python and C look at together.", taken)
    fill(second, abi, vars(abi).get("C_PREFIXES", {}), {})
    return {INCLUDE / "isa.h": first.text(), INCLUDE / "abi.h": second.text("isa.h")}


def main(argv: list[str] | None = None) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description="Print the C headers out of the Python tables.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a header is not fresh")
    check = parser.parse_args(argv).check
    stale = 0
    for path, text in headers().items():
        if path.exists() and path.read_text() == text:
            continue
        if check:
            print(f"{path.relative_to(ROOT)} is not what the Python tables say; run tools/gen_headers.py")
            stale = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return stale


if __name__ == "__main__":
    sys.exit(main())
