"""Enclaves from a piece of assembly: a test says the code and what is unusual about it, the rest is as usual.

The layout, from offset 0: code (RX), then each block of data, then for each thread its TCS, its SSA and a page for
its FS and GS; a page without memory between any two. Every part is a symbol that the code can use: ``data``,
``tcs0``, ``ssa0``, ``tls0``.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.plan import LoadPlan, PageRun
from swsgx.inprocess import Enclave, Sgx
from swsgx.isa.address import PAGE_SIZE, Offset
from swsgx.isa.flags import Attributes, PageType, secinfo_flags
from swsgx.isa.layout import Layout, octets, u64, zero
from swsgx.isa.sigstruct import Sigstruct
from swsgx.isa.ssa import Exinfo, Gprsgx
from swsgx.isa.structs import Secs, Tcs
from tests.make.world import signing_key

NEEDS_GCC = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("ld") is None,
    reason="assembles enclaves: install gcc and binutils to run these",
)

R, RW, RX = 1, 3, 5
_HERE = Path(__file__).resolve().parent
_INCLUDE = _HERE.parent.parent / "native" / "include"

#: What a piece of assembly may use. ``eexit`` is the exit that can be patched. ``load`` and ``dump`` move all that a
#: program can see of the processor from and to a block, laid out as :class:`State`; they need the blocks ``scratch``
#: (its end is a stack) and the symbol ``xfrm``.
PRELUDE = """
#include "isa.h"
	.macro	eexit target=%rcx
	mov	\\target, %rbx
	eexit_to_rbx
	.endm
	.macro	eexit_to_rbx
	.balign	8
	mov	$ENCLU_EEXIT, %eax
	enclu
	.endm
	.macro	load at
	mov	$xfrm, %eax
	xor	%edx, %edx
	xrstor64 \\at+192(%rip)
	lea	scratch+4096(%rip), %rsp
	pushq	\\at+128(%rip)
	popfq
	mov	\\at+0(%rip), %rax
	mov	\\at+8(%rip), %rcx
	mov	\\at+16(%rip), %rdx
	mov	\\at+24(%rip), %rbx
	mov	\\at+32(%rip), %rsp
	mov	\\at+40(%rip), %rbp
	mov	\\at+48(%rip), %rsi
	mov	\\at+56(%rip), %rdi
	mov	\\at+64(%rip), %r8
	mov	\\at+72(%rip), %r9
	mov	\\at+80(%rip), %r10
	mov	\\at+88(%rip), %r11
	mov	\\at+96(%rip), %r12
	mov	\\at+104(%rip), %r13
	mov	\\at+112(%rip), %r14
	mov	\\at+120(%rip), %r15
	.endm
	.macro	dump at
	mov	%rax, \\at+0(%rip)
	mov	%rcx, \\at+8(%rip)
	mov	%rdx, \\at+16(%rip)
	mov	%rbx, \\at+24(%rip)
	mov	%rsp, \\at+32(%rip)
	mov	%rbp, \\at+40(%rip)
	mov	%rsi, \\at+48(%rip)
	mov	%rdi, \\at+56(%rip)
	mov	%r8, \\at+64(%rip)
	mov	%r9, \\at+72(%rip)
	mov	%r10, \\at+80(%rip)
	mov	%r11, \\at+88(%rip)
	mov	%r12, \\at+96(%rip)
	mov	%r13, \\at+104(%rip)
	mov	%r14, \\at+112(%rip)
	mov	%r15, \\at+120(%rip)
	lea	scratch+4096(%rip), %rsp
	pushfq
	popq	\\at+128(%rip)
	rdfsbase %rax
	mov	%rax, \\at+144(%rip)
	rdgsbase %rax
	mov	%rax, \\at+152(%rip)
	mov	$xfrm, %eax
	xor	%edx, %edx
	xsave64	\\at+192(%rip)
	.endm
	.text
"""

GPRS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)


class State(Layout, size=4096, align=64, source="the prelude above, tests/programs/probe.S"):
    """All that a program can see of its processor."""

    rax = u64(0)
    rcx = u64(8)
    rdx = u64(16)
    rbx = u64(24)
    rsp = u64(32)
    rbp = u64(40)
    rsi = u64(48)
    rdi = u64(56)
    r8 = u64(64)
    r9 = u64(72)
    r10 = u64(80)
    r11 = u64(88)
    r12 = u64(96)
    r13 = u64(104)
    r14 = u64(112)
    r15 = u64(120)
    rflags = u64(128)
    reserved_136 = zero(136, 8)
    fsbase = u64(144)
    gsbase = u64(152)
    reserved_160 = zero(160, 32)
    xsave = octets(192, 3904, "standard format")

    def gprs(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in GPRS}


@dataclass(frozen=True)
class Block:
    """Pages of data.

    Attributes:
        name: a symbol for the code.
        perm: R 1, W 2, X 4.
    """

    name: str
    count: int = 1
    perm: int = RW
    content: bytes = b""


DATA, SCRATCH = Block("data"), Block("scratch")


@dataclass(frozen=True)
class Thread:
    """A TCS and its SSA.

    Attributes:
        entry: where it enters, a label of the code.
        ssa: permissions of each page of the SSA, by page, for those that are not RW; None: there is no page.
        fields: what the TCS page holds, where it is not as usual.
    """

    entry: str = "entry"
    nssa: int = 2
    ssa: Mapping[int, int | None] = field(default_factory=dict)
    fields: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """An enclave as a test writes it down; :meth:`build` makes it."""

    code: str
    threads: Sequence[Thread] = (Thread(),)
    blocks: Sequence[Block] = (DATA, SCRATCH)
    ssaframesize: int = 1
    xfrm: int = 3
    miscselect: int = 0
    attributes: int = Attributes.MODE64BIT
    code_pages: int = 1
    size: int = 0x2000

    def build(self) -> Built:
        """Assemble, lay out, plan; once for each source."""
        known = _built.get(repr(self))
        if known is None:
            known = _built[repr(self)] = self._build()
        return known

    def _build(self) -> Built:
        at = (self.code_pages + 1) * PAGE_SIZE
        places: dict[str, int] = {"xfrm": self.xfrm}
        for block in self.blocks:
            places[block.name] = at
            at += (block.count + 1) * PAGE_SIZE
        for number, thread in enumerate(self.threads):
            places[f"tcs{number}"] = at
            places[f"ssa{number}"] = at + 2 * PAGE_SIZE
            at += (3 + thread.nssa * self.ssaframesize) * PAGE_SIZE
            places[f"tls{number}"] = at
            at += 2 * PAGE_SIZE
        text, labels = assemble(PRELUDE + self.code, tuple(places.items()))
        if len(text) > self.code_pages * PAGE_SIZE:
            raise ValueError(f"the code has {len(text)} bytes, {self.code_pages} page(s) are planned")
        return Built(self, {**labels, **places}, text, size=max(self.size, 1 << (at - 1).bit_length()))


_built: dict[str, Built] = {}


@dataclass(frozen=True)
class Built:
    """An enclave, ready to be loaded.

    Attributes:
        symbols: offsets of the code's labels and of all parts.
    """

    source: Source
    symbols: Mapping[str, int]
    text: bytes
    size: int

    def _tcs(self, number: int, thread: Thread) -> Tcs:
        usual = {
            "ossa": self.symbols[f"ssa{number}"],
            "nssa": thread.nssa,
            "oentry": self.symbols[thread.entry],
            "ofsbase": self.symbols[f"tls{number}"],
            "ogsbase": self.symbols[f"tls{number}"],
            "fslimit": 0xFFF,
            "gslimit": 0xFFF,
        }
        return Tcs.of(**(usual | dict(thread.fields)))

    def _runs(self) -> list[PageRun]:
        def run(name: str, at: int, count: int, flags: int, content: bytes = b"") -> PageRun:
            padded = memoryview(content.ljust(count * PAGE_SIZE, b"\0")) if content else None
            return PageRun(Offset(at), count, flags, True, padded, name=name)

        def reg(name: str, at: int, count: int, perm: int, content: bytes = b"") -> PageRun:
            return run(name, at, count, secinfo_flags(PageType.REG, perm), content)

        runs = [reg("code", 0, self.source.code_pages, RX, self.text)]
        for block in self.source.blocks:
            runs.append(reg(block.name, self.symbols[block.name], block.count, block.perm, block.content))
        for number, thread in enumerate(self.source.threads):
            tcs = bytes(self._tcs(number, thread))
            runs.append(
                run(f"tcs{number}", self.symbols[f"tcs{number}"], 1, secinfo_flags(PageType.TCS), tcs)
            )
            for page in range(thread.nssa * self.source.ssaframesize):
                perm = thread.ssa.get(page, RW)
                if perm is not None:
                    runs.append(reg(f"ssa{number}", self.symbols[f"ssa{number}"] + page * PAGE_SIZE, 1, perm))
            runs.append(reg(f"tls{number}", self.symbols[f"tls{number}"], 1, RW))
        return runs

    @cached_property
    def plan(self) -> LoadPlan:
        count = len(self.source.threads)
        return LoadPlan(
            file="test",
            kind="swsgx",
            size=self.size,
            ssaframesize=self.source.ssaframesize,
            entries=tuple(self._runs()),
            tcs=tuple(Offset(self.symbols[f"tcs{number}"]) for number in range(count)),
            attributes=self.source.attributes,
            xfrm=self.source.xfrm,
            miscselect=self.source.miscselect,
        )

    @cached_property
    def sigstruct(self) -> Sigstruct:
        options = SigstructOptions(
            attributes=self.source.attributes & ~Attributes.DEBUG,
            xfrm=self.source.xfrm,
            miscselect=self.source.miscselect,
        )
        return sign(unsigned(self.plan.measure().digest(), options), signing_key())

    def secs(self, base: int) -> Secs:
        """What CREATE is given, for those who build it step by step."""
        return Secs.of(
            size=self.size,
            baseaddr=base,
            ssaframesize=self.source.ssaframesize,
            attributes=self.source.attributes,
            xfrm=self.source.xfrm,
            miscselect=self.source.miscselect,
        )

    def load(self, sgx: Sgx) -> Loaded:
        debug = bool(self.source.attributes & Attributes.DEBUG)
        return Loaded(sgx.load(self.plan, self.sigstruct, debug=debug), self)


@dataclass(frozen=True)
class Loaded:
    """An enclave that can be entered, and its memory as only the machine sees it."""

    enclave: Enclave
    built: Built

    def address(self, symbol: str, offset: int = 0) -> int:
        """Where a part or a label lies."""
        return self.enclave.base + self.built.symbols[symbol] + offset

    @property
    def contents(self) -> memoryview:
        return self.enclave.file.encl.store.contents.view

    def memory(self, symbol: str, size: int = PAGE_SIZE, offset: int = 0) -> memoryview:
        """The enclave's own memory, whatever the host may see of it."""
        at = self.built.symbols[symbol] + offset
        return self.contents[at : at + size]

    def word(self, symbol: str, offset: int = 0) -> int:
        return int.from_bytes(self.memory(symbol, 8, offset), "little")

    def set_word(self, symbol: str, value: int, offset: int = 0) -> None:
        self.memory(symbol, 8, offset)[:] = value.to_bytes(8, "little")

    def state(self, symbol: str) -> State:
        return State(self.memory(symbol))

    def tcs(self, thread: int = 0) -> Tcs:
        return Tcs(self.memory(f"tcs{thread}"))

    @property
    def frame_size(self) -> int:
        return self.built.source.ssaframesize * PAGE_SIZE

    def frame(self, frame: int = 0, thread: int = 0) -> memoryview:
        """An SSA frame."""
        return self.memory(f"ssa{thread}", self.frame_size, frame * self.frame_size)

    def gpr(self, frame: int = 0, thread: int = 0) -> Gprsgx:
        return Gprsgx(self.frame(frame, thread)[self.frame_size - Gprsgx.size_of :])

    def exinfo(self, frame: int = 0, thread: int = 0) -> Exinfo:
        end = self.frame_size - Gprsgx.size_of
        return Exinfo(self.frame(frame, thread)[end - Exinfo.size_of : end])


@cache
def assemble(text: str, symbols: tuple[tuple[str, int], ...]) -> tuple[bytes, dict[str, int]]:
    """The bytes of ``.text`` at address 0, and its labels; ``symbols`` are given from outside."""
    with tempfile.TemporaryDirectory() as folder:
        source, thing, linked = (Path(folder) / name for name in ("e.S", "e.o", "e"))
        source.write_text(text + '\n\t.section .note.GNU-stack, "", @progbits\n')
        _run("gcc", "-c", "-I", str(_INCLUDE), "-o", str(thing), str(source))
        given = [f"--defsym={name}={value:#x}" for name, value in symbols]
        _run("ld", "-Ttext=0", "-e", "0", "--no-relax", *given, "-o", str(linked), str(thing))
        with linked.open("rb") as stream:
            elf = ELFFile(stream)
            section = elf.get_section_by_name(".text")
            table = elf.get_section_by_name(".symtab")
            if section is None:
                raise ValueError("there is no code")
            labels: dict[str, int] = {}
            if isinstance(table, SymbolTableSection):
                labels = {s.name: s["st_value"] for s in table.iter_symbols() if s.name}
            return bytes(section.data()), labels


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(command)}:\n{done.stderr}")
