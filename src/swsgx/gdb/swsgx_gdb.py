"""For gdb: programs under ``swsgx run``, and their enclaves. ``swsgx gdb-file`` prints this file's path.

    (gdb) source PATH

passes the signals by which swsgx works to the program without a word, gives names to what swsgx has put into the
process, and defines commands: ``help sgx``. It is run by gdb's own Python, whichever that is, and imports nothing of
swsgx: offsets are as in :mod:`swsgx.isa.structs` and :mod:`swsgx.isa.ssa`.

What was learnt:

- An enclave is in /proc/PID/maps as ``memfd:sgx-enclave-N``: page by page where the program has mapped it, at an
  address that is base + offset, and once whole elsewhere, for the monitor. A TCS is only there: no program can map it.
  One that is no debug enclave is moved away while no thread is inside; hardware shows such a one to no debugger.
- gdb loads the symbols of a program's vDSO by AT_SYSINFO_EHDR; the one it finds is the kernel's, which is there, too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import gdb  # type: ignore[import-untyped]

__all__ = ["IMAGE_BASE", "SIGNALS", "SSA_LAYOUT", "TCS_LAYOUT", "Enclave", "enclaves"]

#: gdb forgets it when this file is done.
_HERE = Path(__file__).resolve()
#: Where the image lies in every program: swsgx.supervisor.image.
IMAGE_BASE = 0x6F000000
#: What the CPU and the filter raise for swsgx to handle. SIGFPE: a division by 0 inside is not the program's.
SIGNALS = ("SIGSYS", "SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE")
#: Where swsgx has mappings of its own; above are programs and what mmap finds: swsgx.supervisor.engine.
_OWN = range(0x2800_0000_0000, 0x5000_0000_0000)
PAGE = 4096
GPRSGX_SIZE = 184
#: (name, offset, bytes)
TCS_LAYOUT = (
    ("state", 0, 8),
    ("flags", 8, 8),
    ("ossa", 16, 8),
    ("cssa", 24, 4),
    ("nssa", 28, 4),
    ("oentry", 32, 8),
    ("aep", 40, 8),
    ("ofsbase", 48, 8),
    ("ogsbase", 56, 8),
    ("fslimit", 64, 4),
    ("gslimit", 68, 4),
)
_GENERAL = (
    *(
        "rax",
        "rcx",
        "rdx",
        "rbx",
        "rsp",
        "rbp",
        "rsi",
        "rdi",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
    ),
    *("rflags", "rip", "ursp", "urbp"),
)
SSA_LAYOUT = (
    *((name, 8 * i, 8) for i, name in enumerate(_GENERAL)),
    ("exitinfo", 160, 4),
    ("fsbase", 168, 8),
    ("gsbase", 176, 8),
)
_VECTORS = {
    0: "#DE",
    1: "#DB",
    3: "#BP",
    5: "#BR",
    6: "#UD",
    13: "#GP",
    14: "#PF",
    16: "#MF",
    17: "#AC",
    19: "#XM",
}
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) .*/memfd:sgx-enclave-(\d+)")


class Enclave(NamedTuple):
    """An enclave of the program.

    Attributes:
        number: swsgx's.
        base: its first address, as its maker chose it.
        size: bytes of its range.
        view: where all of its pages are, at base + offset - base + view.
    """

    number: int
    base: int
    size: int
    view: int

    def read(self, address: int, size: int) -> bytes:
        """Bytes of it, of pages that no program can map as well."""
        memory = gdb.selected_inferior().read_memory(address - self.base + self.view, size)
        return bytes(memory)


def enclaves() -> Iterator[Enclave]:
    """Those that are where the program has mapped them: a hidden one is not."""
    pid = gdb.selected_inferior().pid
    if not pid:
        raise gdb.GdbError("there is no process: run or attach first")
    found: dict[int, list[tuple[int, int, int]]] = {}
    for line in Path(f"/proc/{pid}/maps").read_bytes().decode("utf-8", "replace").split("\n"):
        match = _MAPPING.match(line)
        if match:
            start, end, offset = (int(match.group(i), 16) for i in (1, 2, 4))
            found.setdefault(int(match.group(5)), []).append((end - start, start, offset))
    for number, mappings in sorted(found.items()):
        size, view, _ = max(mappings)
        bases = [start - offset for _, start, offset in mappings if start not in _OWN]
        if bases:
            yield Enclave(number, bases[0], size, view)


def _enclave_of(address: int) -> Enclave:
    known = list(enclaves())
    for enclave in known:
        if enclave.base <= address < enclave.base + enclave.size:
            return enclave
    ranges = ", ".join(f"{e.base:#x} to {e.base + e.size - 1:#x}" for e in known) or "none"
    raise gdb.GdbError(f"{address:#x} is in no enclave; there are: {ranges}")


def _words(argument: str, names: Sequence[str], needed: int) -> list[int]:
    """Values of expressions. Where there may be several, one with blanks needs quotes."""
    words = gdb.string_to_argv(argument) if len(names) > 1 else [argument] if argument else []
    if not needed <= len(words) <= len(names):
        raise gdb.GdbError(f"expected {' '.join(names[:needed])} and at most {len(names) - needed} more")
    return [int(gdb.parse_and_eval(word)) & (1 << 64) - 1 for word in words]


def _fields(layout: Sequence[tuple[str, int, int]], data: bytes) -> dict[str, int]:
    return {name: int.from_bytes(data[at : at + size], "little") for name, at, size in layout}


def _tcs_at(address: int) -> tuple[Enclave, dict[str, int]]:
    if address % PAGE:
        raise gdb.GdbError(f"{address:#x} is no TCS: it is not at the start of a page")
    enclave = _enclave_of(address)
    return enclave, _fields(TCS_LAYOUT, enclave.read(address, 72))


def _exit_reason(exitinfo: int) -> str:
    if not exitinfo >> 31:
        return "an interrupt; or #PF or #GP, if MISCSELECT.EXINFO is 0"
    vector = exitinfo & 0xFF
    return f"vector {vector} {_VECTORS.get(vector, '')}, type {exitinfo >> 8 & 7}"


class _Command(gdb.Command):  # type: ignore[misc]
    """What all have: their words, which gdb shows as help, come from the docstring."""

    name = ""

    def __init__(self) -> None:
        super().__init__(self.name, gdb.COMMAND_DATA)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        for line in self.lines(argument):
            gdb.write(f"{line}\n")

    def lines(self, argument: str) -> Iterator[str]:
        """What is shown."""
        raise NotImplementedError


class _Sgx(_Command):
    """The enclaves of the program: their numbers and ranges.

    Others: sgx-symbols FILE [ADDRESS], sgx-tcs ADDRESS, sgx-ssa TCS [FRAME [PAGES]], sgx-page ADDRESS [WORDS];
    and the function $sgx_base(): the first address of the enclave that you are inside, or of the only one.
    """

    name = "sgx"

    def lines(self, argument: str) -> Iterator[str]:
        """One for each."""
        for enclave in enclaves():
            inside = "inside" if enclave.base <= _pc() < enclave.base + enclave.size else ""
            yield f"{enclave.number}  {enclave.base:#x} to {enclave.base + enclave.size - 1:#x}  {inside}"


def _pc() -> int:
    try:
        return int(gdb.selected_frame().pc())
    except gdb.error:
        return 0


class _Tcs(_Command):
    """The fields of the TCS at ADDRESS: sgx-tcs ADDRESS."""

    name = "sgx-tcs"

    def lines(self, argument: str) -> Iterator[str]:
        """One for each field."""
        (address,) = _words(argument, ["ADDRESS"], 1)
        enclave, tcs = _tcs_at(address)
        notes = {
            "state": "a thread is inside" if tcs["state"] else "free",
            "flags": "DBGOPTIN" if tcs["flags"] & 1 else "",
            **{name: f"{enclave.base + tcs[name]:#x}" for name in ("ossa", "oentry", "ofsbase", "ogsbase")},
        }
        for name, value in tcs.items():
            yield f"{name:<8} {value:#x}  {notes.get(name, '')}".rstrip()


class _Ssa(_Command):
    """The registers that an exit left in an SSA frame: sgx-ssa TCS [FRAME [PAGES]].

    FRAME: its number; by default the last that is in use, CSSA - 1. PAGES: of a frame, SECS.SSAFRAMESIZE; 1.
    """

    name = "sgx-ssa"

    def lines(self, argument: str) -> Iterator[str]:
        """One for each register."""
        address, *more = _words(argument, ["TCS", "FRAME", "PAGES"], 1)
        enclave, tcs = _tcs_at(address)
        frame, pages = (*more, *(tcs["cssa"] - 1, 1)[len(more) :])
        if not 0 <= frame < tcs["nssa"]:
            raise gdb.GdbError(f"no frame {frame}: CSSA is {tcs['cssa']}, and NSSA {tcs['nssa']}")
        end = enclave.base + tcs["ossa"] + (frame + 1) * pages * PAGE
        data = enclave.read(end - GPRSGX_SIZE - 16, GPRSGX_SIZE + 16)
        ssa = _fields(SSA_LAYOUT, data[16:])
        yield f"frame {frame} of {tcs['nssa']}, which ends at {end:#x}; CSSA is {tcs['cssa']}"
        for name, value in ssa.items():
            note = _exit_reason(value) if name == "exitinfo" else ""
            if enclave.base <= value < enclave.base + enclave.size:
                note = f"enclave + {value - enclave.base:#x}"
            yield f"{name:<8} {value:#x}  {note}".rstrip()
        maddr, errcd = struct.unpack_from("<QI", data)
        yield f"exinfo   maddr {maddr:#x}, errcd {errcd:#x}  (if MISCSELECT asks for it)"


class _Page(_Command):
    """Some words of an enclave's page, also of one that no program can map: sgx-page ADDRESS [WORDS]."""

    name = "sgx-page"

    def lines(self, argument: str) -> Iterator[str]:
        """Two words of 8 bytes a line."""
        address, *more = _words(argument, ["ADDRESS", "WORDS"], 1)
        count = more[0] if more else 8
        data = _enclave_of(address).read(address, 8 * count)
        for i in range(0, count, 2):
            words = struct.unpack_from(f"<{min(2, count - i)}Q", data, 8 * i)
            yield f"{address + 8 * i:#x}:  " + "  ".join(f"{word:#018x}" for word in words)


class _Symbols(_Command):
    """Names from an enclave's ELF file, at the address of the enclave: sgx-symbols FILE [ADDRESS].

    ADDRESS: any in the enclave; it may be left out if there is only one.
    """

    name = "sgx-symbols"

    def lines(self, argument: str) -> Iterator[str]:
        """What was done."""
        words = gdb.string_to_argv(argument)
        if not 1 <= len(words) <= 2:
            raise gdb.GdbError("expected FILE and, if there is more than one enclave, ADDRESS")
        known = list(enclaves())
        if len(words) == 1 and len(known) != 1:
            raise gdb.GdbError(f"there are {len(known)} enclaves: say an address in the one that you mean")
        enclave = _enclave_of(*_words(words[1], ["ADDRESS"], 1)) if len(words) == 2 else known[0]
        gdb.execute(f"add-symbol-file {words[0]} -o {enclave.base:#x}", to_string=True)
        yield f"symbols of {words[0]} at {enclave.base:#x}"


class _Base(gdb.Function):  # type: ignore[misc]
    """The first address of the enclave that you are inside, or of the only one: $sgx_base()."""

    def __init__(self) -> None:
        super().__init__("sgx_base")

    def invoke(self) -> int:
        """Called by gdb."""
        known = list(enclaves())
        inside = [enclave for enclave in known if enclave.base <= _pc() < enclave.base + enclave.size]
        chosen = inside or known
        if len(chosen) != 1:
            raise gdb.GdbError(f"there are {len(known)} enclaves, and you are inside none: see sgx")
        return chosen[0].base


def _image() -> Path | None:
    """The image's file: with debug data in a checkout, else that of the package."""
    package = _HERE.parent.parent
    debug = package.parent.parent / "build" / "native" / "swsgx-target.debug"
    files = [path for path in (debug, package / "native" / "images" / "swsgx-target.so") if path.exists()]
    return files[0] if files else None


def _name_image(_event: object = None) -> None:
    """At the first stop of a program that has the image."""
    path, pid = _image(), gdb.selected_inferior().pid
    if path is None or not pid:
        return
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace", newline="\n") as maps:
        if not any(line.startswith(f"{IMAGE_BASE:x}-") for line in maps):
            return
    gdb.execute(f"add-symbol-file {path} -o {IMAGE_BASE:#x}", to_string=True)
    gdb.events.stop.disconnect(_name_image)


def _start() -> None:
    for made in (_Sgx, _Tcs, _Ssa, _Page, _Symbols, _Base):
        made()
    for signal in SIGNALS:
        gdb.execute(f"handle {signal} nostop noprint pass", to_string=True)
    gdb.events.stop.connect(_name_image)
    _name_image()


_start()
