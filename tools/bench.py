#!/usr/bin/env python3
"""The budgets of the design, measured: one line each, ``NAME measured RATIO bound BOUND ok|SHORT``.

Every figure is a ratio of two things timed side by side in one run, and the median of several such pairs: it
holds on a fast machine and a slow one, and a noisy one. Give names (or parts of them) to run only those.

Usage: bench.py [--runs N] [NAME ...]
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import hashlib
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from swsgx.identity.rsakey import generate_key
from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.enclave import load_plan
from swsgx.image.plan import LoadPlan, PageRun
from swsgx.image.writer import write_sgxs
from swsgx.inprocess import Enclave, Sgx
from swsgx.inprocess.memory import aligned_buffer
from swsgx.isa.address import PAGE_SIZE, Offset
from swsgx.isa.flags import Attributes
from swsgx.isa.structs import Secinfo, Secs
from swsgx.linux.device import EnclaveFile
from swsgx.linux.security import SecurityHooks
from swsgx.linux.uapi import PAGE_MEASURE, SGX_IOC_ENCLAVE_ADD_PAGES, EnclaveAddPages
from swsgx.lsm.assembly import assemble
from swsgx.native.images import address_of

TOP = Path(__file__).resolve().parent.parent
EXAMPLES = TOP / "build" / "examples"
#: Bytes that SHA-256 sees of a measured page: an EADD record, and 16 EEXTEND records with 256 bytes each.
HASHED_PER_PAGE = 64 + 16 * (64 + 256)
RW_REG, RX_REG = 0x203, 0x205
MIB = 1 << 20
#: Mappings of an enclave that the budgets for hiding are for.
VMAS = 5


@dataclass(frozen=True)
class Budget:
    """One line: a ratio, and what it may be at most, or must be at least; without either it is for information."""

    name: str
    pair: Callable[[], float]
    at_most: float | None = None
    at_least: float | None = None

    def report(self, runs: int) -> bool:
        """Measure and print; whether the bound holds for the median, to two decimals."""
        ratios = sorted(self.pair() for _ in range(runs))
        ratio = round(statistics.median(ratios), 2)
        if self.at_most is not None:
            bound, good = f"<={self.at_most:.2f}", ratio <= self.at_most
        elif self.at_least is not None:
            bound, good = f">={self.at_least:.2f}", ratio >= self.at_least
        else:
            bound, good = "none", True
        verdict = "ok" if good else "SHORT"
        print(
            f"{self.name:<30} measured {ratio:.2f} bound {bound} {verdict}"
            f"   ({runs} pairs, {ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )
        return good


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def loaded(name: str, sgx: Sgx) -> Iterator[Enclave]:
    """An example enclave, freshly signed and loaded."""
    plan = load_plan(EXAMPLES / name)
    options = SigstructOptions(miscselect=plan.miscselect or 0)
    sigstruct = sign(unsigned(plan.measure().digest(), options), generate_key())
    with sgx.load(plan, sigstruct) as enclave:
        yield enclave


def side_by_side(ours: Callable[[], object], theirs: Callable[[], object], slices: int) -> float:
    """``ours`` over ``theirs``: short slices in turn and the median of each, against busy moments."""
    pairs = [(timed(ours), timed(theirs)) for _ in range(slices)]
    return statistics.median(pair[0] for pair in pairs) / statistics.median(pair[1] for pair in pairs)


def round_trip() -> float:
    """EENTER and EEXIT through the vDSO function, in null system calls; isolation off."""
    count = 20_000
    with Sgx(isolation="off") as sgx, loaded("bare.elf", sgx) as enclave, enclave.prepared() as call:
        call.repeat(3)
        return side_by_side(lambda: call.repeat(count), lambda: sgx.null_calls(count), 25)


def raw_round_trip() -> float:
    """The same through a hand-written ENCLU, after its first use."""
    count = 1000
    with Sgx(isolation="off") as sgx, loaded("bare.elf", sgx) as enclave, enclave.prepared() as call:
        call.repeat(3, raw=True)
        return side_by_side(lambda: call.repeat(count, raw=True), lambda: sgx.null_calls(20 * count), 9) * 20


def hidden_plan(size: int, mappings: int) -> tuple[LoadPlan, list[PageRun]]:
    """The shortest enclave with so many mappings, ``size`` bytes of them to be touched; and where those are."""
    plan = load_plan(EXAMPLES / "bare.elf")
    kept = [
        run for run in plan.entries if run.name in ("segment 0", "segment 1", "stack 0", "tcs 0", "ssa 0")
    ]
    pieces = mappings - VMAS + 1
    each = size // pieces // PAGE_SIZE
    # Each piece is followed by a page without memory, so that the host cannot merge two of them.
    heap = [
        PageRun(
            Offset(size + i * (each + 1) * PAGE_SIZE), each, RW_REG, measured=False, content=None, name="heap"
        )
        for i in range(pieces)
    ]
    plan = replace(plan, size=4 * size, entries=(*kept, *heap), tcs=plan.tcs[:1])
    mapped = sum(1 for run in plan.entries if run.permissions != "---")
    if mapped != mappings:
        sys.exit(f"bench: {mapped} mappings where {mappings} were wanted")
    return plan, heap


def hidden_round_trip(size: int, mappings: int = VMAS) -> float:
    """The same, with the range hidden while outside: so many mappings, ``size`` bytes of them touched."""
    count = 200
    plan, heap = hidden_plan(size, mappings)
    sigstruct = sign(unsigned(plan.measure().digest(), SigstructOptions()), generate_key())
    with Sgx(isolation="hidden", epc_size=2 * size + 8 * MIB) as sgx, sgx.load(plan, sigstruct) as enclave:
        for run in heap:
            with enclave.prepared(rdi=enclave.base + run.offset, rsi=run.count) as call:
                call.repeat(1)
        with enclave.prepared() as call:
            return side_by_side(lambda: call.repeat(count), lambda: sgx.null_calls(20 * count), 9) * 20


def hidden_per_mapping() -> float:
    """What one more mapping adds to such a round trip, in null system calls."""
    more = 20
    return (hidden_round_trip(2 * MIB, VMAS + more) - hidden_round_trip(2 * MIB)) / more


def hidden_growth() -> float:
    """How much more 128 MiB cost than 2 MiB."""
    return hidden_round_trip(128 * MIB) / hidden_round_trip(2 * MIB)


def compute() -> float:
    """The same machine code inside an enclave and outside."""
    outside = ctypes.CDLL(str(EXAMPLES / "kernel.so")).compute_kernel
    outside.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    outside.restype = ctypes.c_uint64
    rounds = 100_000
    with Sgx() as sgx, loaded("compute.elf", sgx) as enclave:
        ratio = side_by_side(
            lambda: enclave.enter(rdi=2, rsi=rounds, rdx=1).check(), lambda: outside(rounds, 1), 7
        )
        if enclave.enter(rdi=2, rsi=rounds, rdx=1).check().rsi != outside(rounds, 1):
            sys.exit("bench: the enclave computed something else than the library")
    return ratio


def add_pages(size: int, flags: int, source: int) -> float:
    """Seconds of one ADD_PAGES of ``size`` bytes."""
    with Sgx(epc_size=size + 8 * MIB) as sgx:
        file = sgx.driver.open_enclave()
        secs = Secs.of(
            size=2 * size, baseaddr=2 * size, ssaframesize=1, attributes=Attributes.MODE64BIT, xfrm=3
        )
        sgx.loader(file).create(secs)
        with aligned_buffer(PAGE_SIZE) as (page, address):
            page[128 : 128 + Secinfo.size_of] = Secinfo.of(flags=RW_REG).buffer
            argument = EnclaveAddPages.of(src=source, length=size, secinfo=address + 128, flags=flags)
            page[: argument.size_of] = argument.buffer
            seconds = timed(lambda: file.ioctl(sgx.task, SGX_IOC_ENCLAVE_ADD_PAGES, address))
            if EnclaveAddPages(page).count != size:
                sys.exit("bench: ADD_PAGES did not add all pages")
        file.close()
    return seconds


class Construction:
    """ADD_PAGES of one size, against what its bytes cost at the least."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._area: mmap.mmap | None = None

    def _source(self) -> tuple[memoryview, int]:
        if self._area is None:
            self._area = mmap.mmap(-1, self._size)
            pattern = np.random.default_rng(1).integers(0, 256, MIB, np.uint8).tobytes()
            for at in range(0, self._size, MIB):
                self._area[at : at + MIB] = pattern
        view = memoryview(self._area)
        return view, address_of(view)

    def measured(self) -> float:
        """Speed of a measured ADD_PAGES, as a fraction of SHA-256 over the bytes it must hash."""
        view, source = self._source()
        ours = add_pages(self._size, PAGE_MEASURE, source)
        total = self._size // PAGE_SIZE * HASHED_PER_PAGE

        def plain() -> None:
            digest = hashlib.sha256()
            left = total
            while left:
                part = min(left, self._size)
                digest.update(view[:part])
                left -= part
            digest.digest()

        return timed(plain) / ours

    def unmeasured(self) -> float:
        """Speed of an unmeasured ADD_PAGES, as a fraction of a memcpy into a fresh memfd mapping."""
        view, source = self._source()
        ours = add_pages(self._size, 0, source)
        fd = os.memfd_create("bench")
        os.ftruncate(fd, self._size)
        with mmap.mmap(fd, self._size) as fresh:
            plain = timed(lambda: np.copyto(np.frombuffer(fresh, np.uint8), np.frombuffer(view, np.uint8)))
        os.close(fd)
        return plain / ours


RUN = [sys.executable, "-c", "from swsgx.cli.entry import main; main()", "run", "--"]


@functools.cache
def bench_target() -> str:
    """The program that times round trips itself, compiled; it does not know swsgx."""
    folder = TOP / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    host = TOP / "examples" / "host"
    sources = [TOP / "tools" / "bench_target.c", *(host / f"{name}.c" for name in ("sgxs", "load", "call"))]
    program = folder / "bench_target"
    words: list[str | Path] = [
        "cc",
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-o",
        program,
        *sources,
        host / "enter.S",
    ]
    subprocess.run(words, check=True)
    return str(program)


def nanoseconds(words: list[str]) -> list[float]:
    """What the program prints."""
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def target_round_trip(
    way: str,
    count: int,
    nulls: int,
    slices: int,
    isolation: str = "off",
    size: int = 0,
    options: tuple[str, ...] = (),
) -> float:
    """EENTER and EEXIT of an unmodified program under ``swsgx run``, in its own null system calls.

    Args:
        way: ``vdso``, or ``raw`` for an ENCLU of the program's own.
        count, nulls, slices: so many round trips, then so many null calls, so many times; the medians count.
        isolation: the option's value.
        size: bytes of an enclave that touches so many, in :data:`VMAS` mappings; 0: the shortest.
        options: others of ``swsgx run``.
    """
    plan, heap = hidden_plan(size, VMAS) if size else (load_plan(EXAMPLES / "bare.elf"), [])
    with tempfile.TemporaryDirectory() as folder:
        sgxs, sigstruct = Path(folder, "enclave.sgxs"), Path(folder, "enclave.sig")
        with sgxs.open("wb") as file:
            write_sgxs(plan, file)
        signed = sign(unsigned(plan.measure().digest(), SigstructOptions()), generate_key())
        sigstruct.write_bytes(bytes(signed))
        run = [*RUN[:-1], "--isolation", isolation, *options, "--"]
        touched = [str(number) for piece in heap for number in (int(piece.offset), piece.count)]
        ours, theirs = nanoseconds(
            [
                *run,
                bench_target(),
                str(sgxs),
                str(sigstruct),
                way,
                str(count),
                str(nulls),
                str(slices),
                *touched,
            ]
        )
    return ours / theirs


@functools.cache
def sgx_program(name: str) -> str:
    """One of the small programs that use SGX, compiled; with an argument it prints figures."""
    sys.path.insert(0, str(TOP))
    from tests.make.sgx_program import Programs

    return str(Programs(TOP / "build" / "bench" / "programs").build(name))


def eaccept_fresh() -> float:
    """EACCEPT of pages that appear by it, one by one, under ``swsgx run``: in ten thousand a second."""
    words = [*RUN[:-1], "--isolation", "off", "--", sgx_program("memory_grow.c"), "2000"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[0]) / 10_000


def swept(which: int) -> float:
    """A figure of an enclave of 1,900 pages on an EPC of 1,024.

    0: MB/s moved by sweeps, out and in. 1: microseconds of an entry that touches a page which is out. 2, 3:
    microseconds a page of RESTRICT_PERMISSIONS, and of MODIFY_TYPES to TRIM, most of which are out.
    """
    words = [*RUN[:-1], "--epc", "4M", "--isolation", "off", "--", sgx_program("memory_sweep.c"), "20"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[which])


#: All files are of one type, whoever asks may do everything with them, and all code is measured.
POLICY = {
    "bench.te": (
        'policy_module(bench, 1.0)\ntype bench_t;\ntype code_t;\nsubjcon exe "/.*" bench_t\nfilecon "/.*" code_t\n'
        "allow bench_t { code_t sgx_device_t } : enclave *;\n"
    ),
    "bench.identity": (
        "policy_name=bench policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY\n"
        "op=ENCLAVE_INIT isvprodid=0 label=code_t action=ALLOW\n"
    ),
    "bench.integrity": (
        "measure func=ENCLAVE_LOAD mask=MAY_EXEC template=encl-load\n"
        "measure func=ENCLAVE_INIT template=encl-init\n"
    ),
}


def judged_add_pages() -> float:
    """ADD_PAGES of 64 MiB of a file, 4 MiB of it code, with all security modules over without."""
    code, data = 4 * MIB, 60 * MIB
    size = code + data
    with tempfile.TemporaryDirectory() as folder:
        for name, text in POLICY.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        contents = Path(folder, "enclave")
        contents.write_bytes(
            np.random.default_rng(1).integers(0, 256, MIB, np.uint8).tobytes() * (size // MIB)
        )

        def built(source: int, modules: SecurityHooks | None) -> None:
            with Sgx(epc_size=size + 8 * MIB, security=modules) as sgx:
                file = sgx.driver.open(subject=sgx.task.subject)
                if not isinstance(file, EnclaveFile):
                    sys.exit("bench: the node cannot be opened")
                attributes = Attributes.MODE64BIT
                secs = Secs.of(
                    size=2 * size, baseaddr=2 * size, ssaframesize=1, attributes=attributes, xfrm=3
                )
                sgx.loader(file).create(secs)
                for flags, offset, length in ((RX_REG, 0, code), (RW_REG, code, data)):
                    with aligned_buffer(PAGE_SIZE) as (page, address):
                        page[128 : 128 + Secinfo.size_of] = Secinfo.of(flags=flags).buffer
                        argument = EnclaveAddPages.of(
                            src=source + offset,
                            offset=offset,
                            length=length,
                            secinfo=address + 128,
                            flags=PAGE_MEASURE,
                        )
                        page[: argument.size_of] = argument.buffer
                        file.ioctl(sgx.task, SGX_IOC_ENCLAVE_ADD_PAGES, address)
                        if EnclaveAddPages(page).count != length:
                            sys.exit("bench: ADD_PAGES did not add all pages")
                file.close()

        with (
            contents.open("rb") as file,
            mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as area,
            assemble(
                [str(Path(folder, name)) for name in POLICY],
                modules=["no_unmeasured_exec"],
                measurements=Path(folder, "list"),
            ) as made,
        ):
            source = address_of(memoryview(area))
            return side_by_side(lambda: built(source, made.stack), lambda: built(source, None), 7)


def judged_call() -> float:
    """A call into an enclave of a program under security modules, over one of a program without."""
    judged = ("--lsm", "no_unmeasured_exec")
    with_modules = target_round_trip("vdso", 20_000, 20_000, 25, options=judged)
    return with_modules / target_round_trip("vdso", 20_000, 20_000, 25)


def target_null_call() -> float:
    """A null system call of a supervised program that does not use SGX, over one alone."""
    words = [bench_target(), "null", "100000", "25"]
    return nanoseconds([*RUN, *words])[0] / nanoseconds(words)[0]


def command(words: list[str], folder: str | None = None) -> Callable[[], object]:
    """Runs a command to its end; the measurement is void if it fails."""
    return lambda: subprocess.run(words, cwd=folder, stdout=subprocess.DEVNULL, check=True)


def run_true() -> float:
    """``swsgx run -- true`` in starts of Python."""
    return side_by_side(command([*RUN, "/bin/true"]), command([sys.executable, "-c", "pass"]), 9)


def supervised(words: list[str], files: dict[str, str]) -> float:
    """A command that does not use SGX, supervised over alone, in a folder with ``files``; starting swsgx included."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        return side_by_side(command([*RUN, *words], folder), command(words, folder), 5)


TESTS = (
    "import json, pytest\n\n\n@pytest.mark.parametrize('i', range(3000))\n"
    "def test_it(i, tmp_path_factory):\n    assert json.loads(json.dumps([i] * 100)) == [i] * 100\n"
)
HEADERS = ("math.h", "complex.h", "stdio.h", "stdlib.h", "string.h", "pthread.h", "netdb.h", "regex.h")
#: About 0.3 s of compiling each: what the budget is for.
UNIT = "".join(f"#include <{name}>\n" for name in HEADERS) + "".join(
    f"int f{i}(int a, int *p)\n{{\n\tfor (int i = 0; i < a; i++)\n\t\tp[i] = p[i / 2] * {i} + a % (i + 1);\n"
    "\treturn p[a];\n}\n"
    for i in range(120)
)
MAKEFILE = "all: a.o b.o c.o d.o\n%.o: %.c\n\tcc -O2 -c -o $@ $<\n"


#: Starts of programs, in the manner of a configure script: a small program is written, compiled, linked and run, with
#: the usual tools in between. Most of the time goes into exec, path calls and process creation.
TARGETS = 30
EXECS = "".join(
    f"t{i}.ok: unit.c\n\tsed 's/NUMBER/{i}/' unit.c > t{i}.c\n\tcc -o t{i} t{i}.c\n\t./t{i} > t{i}.out\n"
    f"\tgrep -q '^{i}$$' t{i}.out\n\tmv t{i}.out t{i}.done\n\ttouch t{i}.ok\n"
    for i in range(TARGETS)
)
EXEC_MAKEFILE = "all:" + "".join(f" t{i}.ok" for i in range(TARGETS)) + "\n" + EXECS
EXEC_UNIT = '#include <stdio.h>\nint main(void)\n{\n\treturn printf("NUMBER\\n") < 0;\n}\n'


def git_gc() -> float:
    """``git gc`` that computes all deltas anew, of a few thousand versions of files, supervised over alone."""
    lines = [f"line {i} of a file that grows and changes now and then {i * i}\n" for i in range(400)]
    stream = ["feature done\n"]
    for version in range(4000):
        lines[version * 7 % len(lines)] = f"version {version} has changed this {version * version}\n"
        text = "".join(lines[: 100 + version % 300])
        stream.append(
            f"commit refs/heads/main\ncommitter A <a@example.org> {version} +0000\ndata 1\nx\n"
            f"M 100644 inline f{version % 4}\ndata {len(text)}\n{text}\n"
        )
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", "-C", folder, "-c", "gc.autoDetach=false"]
        subprocess.run([*git, "init", "--quiet", "--bare"], check=True)
        subprocess.run(
            [*git, "fast-import", "--quiet"], input="".join([*stream, "done\n"]), text=True, check=True
        )
        words = [*git, "gc", "--aggressive", "--quiet", "--prune=now"]
        return side_by_side(command([*RUN, *words]), command(words), 3)


def budgets() -> list[Budget]:
    """All lines, in the order of the design's table."""
    small, large = Construction(64 * MIB), Construction(1024 * MIB)
    return [
        Budget("round-trip-isolation-off", round_trip, at_most=0.60),
        Budget("round-trip-raw-enclu", raw_round_trip, at_most=40),
        Budget("round-trip-hidden-2MiB", lambda: hidden_round_trip(2 * MIB), at_most=400),
        Budget("round-trip-hidden-128MiB", lambda: hidden_round_trip(128 * MIB), at_most=800),
        Budget("hidden-per-mapping", hidden_per_mapping),
        Budget("hidden-growth-2-to-128MiB", hidden_growth),
        Budget("target-round-trip-vdso", lambda: target_round_trip("vdso", 20_000, 20_000, 25), at_most=0.60),
        Budget("target-round-trip-raw-enclu", lambda: target_round_trip("raw", 1000, 20_000, 9), at_most=40),
        Budget(
            "target-round-trip-hidden-2MiB",
            lambda: target_round_trip("vdso", 200, 4000, 9, "hidden", 2 * MIB),
            at_most=400,
        ),
        Budget("target-null-call", target_null_call),
        Budget("judged-add-pages-64MiB", judged_add_pages, at_most=1.30),
        Budget("judged-call", judged_call, at_most=1.05),
        Budget("eaccept-fresh", eaccept_fresh, at_least=1.00),
        Budget("paging-sweep-MB-a-second", lambda: swept(0), at_least=300),
        Budget("paging-fault-us", lambda: swept(1)),
        Budget("restrict-us-a-page", lambda: swept(2)),
        Budget("trim-us-a-page", lambda: swept(3)),
        Budget("add-pages-measured-64MiB", small.measured, at_least=0.80),
        Budget("add-pages-measured-1GiB", large.measured, at_least=0.80),
        Budget("add-pages-unmeasured-64MiB", small.unmeasured, at_least=0.50),
        Budget("add-pages-unmeasured-1GiB", large.unmeasured, at_least=0.50),
        Budget("compute-inside", compute, at_most=1.00),
        Budget("run-true", run_true, at_most=5),
        Budget(
            "run-pytest",
            lambda: supervised([sys.executable, "-m", "pytest", "-q", "test_it.py"], {"test_it.py": TESTS}),
            at_most=1.05,
        ),
        Budget(
            "run-compile",
            lambda: supervised(
                ["make", "-sB"], {"Makefile": MAKEFILE, **{f"{name}.c": UNIT for name in "abcd"}}
            ),
            at_most=1.05,
        ),
        Budget("run-git-gc", git_gc, at_most=1.05),
        Budget(
            "run-exec-heavy",
            lambda: supervised(["make", "-sB"], {"Makefile": EXEC_MAKEFILE, "unit.c": EXEC_UNIT}),
            at_most=1.15,
        ),
    ]


def main() -> int:
    """Run the chosen budgets; 1 if one is short."""
    parser = argparse.ArgumentParser(description="Measure swsgx against its budgets.")
    parser.add_argument("--runs", type=int, default=5, help="pairs to take the median of (default 5)")
    parser.add_argument("names", nargs="*", help="only the lines whose name contains one of these")
    arguments = parser.parse_args()
    chosen = [b for b in budgets() if not arguments.names or any(n in b.name for n in arguments.names)]
    short = [budget.name for budget in chosen if not budget.report(arguments.runs)]
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
