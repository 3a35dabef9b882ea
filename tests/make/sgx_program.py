"""The small programs of ``tests/programs/sgx``, with the enclave that they load, built once for a whole test run.

The enclave is assembled and signed here, and linked into each program, so that a program is one file and needs nothing
at run time. What is built lies in one folder, under names made of what it was built from: workers share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pytest

from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.plan import LoadPlan, PageRun
from swsgx.isa.address import PAGE_SIZE, Offset
from swsgx.isa.flags import Attributes, PageType, SecinfoFlags, secinfo_flags
from tests.make.native_enclave import RX, Block, Built, R, Source, Thread
from tests.make.world import signing_key

__all__ = ["COMPILERS", "FOLDER", "Programs", "compilers", "enclave_source", "ended_well", "sigstructs"]

FOLDER = Path(__file__).resolve().parents[1] / "programs" / "sgx"
RWX = 7
_THREADS = 4
_DATA_PAGES = 4
#: The upper half has no pages.
_SIZE = 1 << 24
_WARNINGS = ("-Wall", "-Wextra", "-Werror")
#: What compiles each kind of file; the first that the machine has.
COMPILERS = {
    ".c": ("cc", "gcc", "clang"),
    ".cpp": ("c++", "g++", "clang++"),
    ".rs": ("rustc",),
    ".go": ("go",),
}
#: Parts of the program's enclave, for C: AT_DATA and so on.
_PARTS = ("data", "constant", "leave")
_CONSTANT = bytes(range(256)) * 16
#: Pages that only enclaves of policy tests have: where in the upper half, and how many.
_LOOSE, _LOOSE_PAGES = _SIZE // 2 + (1 << 20), 2


def enclave_source() -> Source:
    """The enclave of all programs."""
    code = (FOLDER / "ops.h").read_text(encoding="utf-8") + (FOLDER / "enclave.S").read_text(encoding="utf-8")
    blocks = (Block("data", _DATA_PAGES), Block("constant", 1, R, _CONSTANT))
    return Source(code, threads=(Thread(),) * _THREADS, blocks=blocks, size=_SIZE)


def sigstructs(built: Built) -> dict[str, bytes]:
    """What vouches for it, each in another way."""
    digest = built.plan.measure().digest()
    ways = {
        "sigstruct": (digest, SigstructOptions()),
        "sigstruct_provision": (
            digest,
            SigstructOptions(attributes=Attributes.MODE64BIT | Attributes.PROVISIONKEY),
        ),
        "sigstruct_intel": (digest, SigstructOptions(vendor=0x8086)),
        **{
            f"sigstruct_{name}": (plan.measure().digest(), SigstructOptions())
            for name, plan in _others(built)
        },
    }
    return {name: bytes(sign(unsigned(of, way), signing_key())) for name, (of, way) in ways.items()}


def _others(built: Built) -> Iterator[tuple[str, LoadPlan]]:
    """Enclaves that differ in a page or two: what policies are about."""
    plan = built.plan

    def page(permissions: int, *, measured: bool) -> PageRun:
        flags = secinfo_flags(PageType.REG, SecinfoFlags(permissions))
        return PageRun(Offset(_LOOSE), _LOOSE_PAGES, flags, measured, None)

    yield "loose", replace(plan, entries=(*plan.entries, page(RWX, measured=True)))
    yield "unmeasured", replace(plan, entries=(*plan.entries, page(RX, measured=False)))
    at = max(index for index, run in enumerate(plan.entries) if run.page_type == PageType.TCS)
    entries = list(plan.entries)
    entries[at] = replace(entries[at], measured=False)
    yield "entry", replace(plan, entries=tuple(entries))


def _image(built: Built) -> bytes:
    image = bytearray(built.size)
    for run in built.plan.entries:
        if run.content is not None:
            image[run.offset : run.end] = run.content
    return bytes(image)


def _pieces(built: Built) -> bytes:
    return b"".join(
        struct.pack("<3Q", run.offset, run.count * PAGE_SIZE, run.secinfo_flags) for run in built.plan.entries
    )


def _header(built: Built) -> str:
    numbers = {"ENCLAVE_SIZE": built.size, "ENCLAVE_THREADS": _THREADS, "AT_DATA_END": _end(built, "data")}
    numbers |= {"AT_HOLES": built.size // 2, "AT_LOOSE": _LOOSE, "LOOSE_LENGTH": _LOOSE_PAGES * PAGE_SIZE}
    numbers |= {f"AT_{name.upper()}": built.symbols[name] for name in _PARTS}
    lines = [f"#define {name} {value:#x}ul" for name, value in numbers.items()]
    return "\n".join(
        [
            "/* Written by tests/make/sgx_program.py. */",
            "#ifndef ENCLAVE_H",
            "#define ENCLAVE_H",
            *lines,
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "struct piece {",
            "\tuint64_t offset, length, flags;",
            "};",
            "extern const struct piece enclave_pieces[];",
            "extern const uint64_t enclave_piece_count, enclave_tcs[];",
            "extern const unsigned char enclave_image[], enclave_sigstruct[1808];",
            "extern const unsigned char enclave_sigstruct_provision[1808], enclave_sigstruct_intel[1808];",
            "extern const unsigned char enclave_sigstruct_loose[1808], enclave_sigstruct_unmeasured[1808];",
            "extern const unsigned char enclave_sigstruct_entry[1808];",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
            "",
        ]
    )


def _end(built: Built, name: str) -> int:
    return next(run.end for run in built.plan.entries if run.name == name)


def _assembly(built: Built, names: Sequence[str]) -> str:
    tcs = ", ".join(f"{offset:#x}" for offset in built.plan.tcs)
    lines = ["\t.section .rodata"]
    for name in ("image", *names, "pieces"):
        align = PAGE_SIZE if name == "image" else 8
        lines += [f"\t.balign {align}", f"\t.globl enclave_{name}", f'enclave_{name}: .incbin "{name}"']
    lines += ["\t.balign 8", "\t.globl enclave_piece_count, enclave_tcs"]
    lines += [f"enclave_piece_count: .quad {len(built.plan.entries)}", f"enclave_tcs: .quad {tcs}"]
    return "\n".join([*lines, '\t.section .note.GNU-stack, "", @progbits', ""])


def compilers(suffix: str) -> list[str]:
    """Those that this machine has, of a kind of file, the usual one first."""
    return [name for name in COMPILERS[suffix] if shutil.which(name) is not None]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str | Path], folder: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")


@dataclass(frozen=True)
class Programs:
    """What is built, and how.

    Args:
        root: the folder, the same for all workers of a run.
    """

    root: Path
    _known: dict[tuple[str, ...], Path] = field(default_factory=dict, repr=False)

    def _once(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """The thing of that name made from ``key``, by whoever comes first."""
        self.root.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        target = self.root / f"{name}-{digest}"
        if not target.exists():
            with _locked(self.root / f"{name}-{digest}.lock"):
                if not target.exists():
                    unfinished = self.root / f"{name}-{digest}.new"
                    make(unfinished)
                    unfinished.rename(target)
        return target

    @cached_property
    def enclave(self) -> Path:
        """A folder with the enclave: for C enclave.h and objects to link, for others its files."""
        source = enclave_source()
        texts = [path.read_text(encoding="utf-8") for path in (FOLDER / "call.S", Path(__file__))]
        key = "\0".join([repr(source), *texts])
        return self._once("enclave", key, lambda folder: self._make_enclave(source, folder))

    @staticmethod
    def _make_enclave(source: Source, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        built = source.build()
        signed = sigstructs(built)
        for name, content in {**signed, "image": _image(built), "pieces": _pieces(built)}.items():
            (folder / name).write_bytes(content)
        (folder / "enclave.h").write_text(_header(built), encoding="utf-8")
        (folder / "data.S").write_text(_assembly(built, list(signed)), encoding="utf-8")
        _run(["cc", "-c", "-o", "data.o", "data.S"], folder)
        _run(["cc", "-c", "-o", "call.o", FOLDER / "call.S"], folder)

    def build(self, name: str, *flags: str, compiler: str | None = None) -> Path:
        """A program, compiled without a warning.

        Args:
            name: of the file in :data:`FOLDER`.
            flags: for the compiler.
            compiler: by default the usual one of the kind of file.
        """
        given = (name, compiler or "", *flags)
        if given not in self._known:
            self._known[given] = self._build(FOLDER / name, list(flags), compiler)
        return self._known[given]

    def _build(self, source: Path, flags: list[str], compiler: str | None) -> Path:
        chosen = compiler or compilers(source.suffix)[0]
        texts = [source, *sorted(FOLDER.glob("*.h"))]
        key = "\0".join([chosen, *flags, self.enclave.name, *(t.read_text(encoding="utf-8") for t in texts)])

        def make(program: Path) -> None:
            env: dict[str, str] | None = None
            if source.suffix == ".rs":
                objects = [f"-Clink-arg={self.enclave / name}" for name in ("data.o", "call.o")]
                command = [chosen, "--edition=2021", "-O", "-Dwarnings", *flags, *objects]
            elif source.suffix == ".go":
                env = {
                    **os.environ,
                    "CGO_ENABLED": "0",
                    "GOCACHE": str(self.root / "go"),
                    "GOFLAGS": "-mod=mod",
                }
                command = [chosen, "build", *flags]
            else:
                language = "-std=gnu11" if source.suffix == ".c" else "-std=c++17"
                command = [chosen, language, "-O1", "-pthread", *_WARNINGS, f"-I{self.enclave}", *flags]
            # The compiler's name in messages is the source's own; no path of this machine gets into __FILE__.
            _run([*command, "-o", str(program), source.name, *self._objects(source)], FOLDER, env)

        return self._once(source.stem, key, make)

    def _objects(self, source: Path) -> list[str]:
        if source.suffix not in (".c", ".cpp"):
            return []
        return [str(self.enclave / name) for name in ("data.o", "call.o")]


def ended_well(done: subprocess.CompletedProcess[str]) -> str:
    """What one of the programs says, which must have succeeded, unless it says what this machine lacks."""
    if done.stdout.startswith("EXIT-SKIP"):
        pytest.skip(done.stdout.partition(" ")[2].strip())
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.endswith("EXIT-SUCCESS\n"), done.stdout[-2000:]
    return done.stdout
