#!/usr/bin/env python3
"""Time and memory of 1, 10 and 100 enclaves, and of ranges that are mostly empty: the table in docs/performance.md.

In our own process, and in an unmodified program under ``swsgx run``. Each row is a process of its own; the rows are
gone through several times, and the medians count. Usage: growth_table.py [--runs N] [--isolation MODE]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from swsgx.identity.rsakey import generate_key
from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.enclave import load_plan
from swsgx.image.writer import write_sgxs
from swsgx.inprocess import Sgx
from swsgx.isa.sigstruct import Sigstruct

TOP = Path(__file__).resolve().parent.parent
EXAMPLE = TOP / "build" / "examples" / "bare.elf"
RUN = [sys.executable, "-c", "from swsgx.cli.entry import main; main()", "run"]
KIB, MIB = 1 << 10, 1 << 20
ROWS = ((1, 2 * MIB), (10, 2 * MIB), (100, 2 * MIB), (1, 64 * MIB), (1, 1024 * MIB), (1, 65536 * MIB))
WAYS = ("in process", "run")


def memory(*pids: int) -> int:
    """Bytes that processes have: their own pages, their page tables, and shared memory they hold, counted once."""
    total, shared = 0, dict[tuple[int, int], int]()
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
            words = dict(line.split(":", 1) for line in lines)
        total += sum(int(words[name].split()[0]) * KIB for name in ("RssAnon", "VmPTE"))
        for name in os.listdir(f"/proc/{pid}/fd"):
            link = Path(f"/proc/{pid}/fd", name)
            try:
                if str(link.readlink()).startswith("/memfd:"):
                    status = link.stat()
                    shared[status.st_dev, status.st_ino] = status.st_blocks * 512
            except FileNotFoundError:
                continue  # what listed the folder
    return total + sum(shared.values())


def signed(size: int) -> Sigstruct:
    """What vouches for the example in a range of ``size`` bytes."""
    plan = replace(load_plan(EXAMPLE), size=size)
    return sign(unsigned(plan.measure().digest(), SigstructOptions()), generate_key())


def in_process(count: int, size: int, isolation: str) -> None:
    """A row's figures, for the parent to read: ms to load, us to enter and leave, KiB; of one enclave each."""
    plan, sigstruct = replace(load_plan(EXAMPLE), size=size), signed(size)
    with Sgx(isolation=isolation) as sgx:
        first = sgx.load(plan, sigstruct)
        first.enter().check()  # what is loaded once is loaded now
        before, start = memory(os.getpid()), time.perf_counter()
        enclaves = [sgx.load(plan, sigstruct) for _ in range(count)]
        loaded = time.perf_counter()
        for enclave in enclaves:
            enclave.enter().check()
        entered = time.perf_counter()
        kib = (memory(os.getpid()) - before) / KIB
    print((loaded - start) * 1e3 / count, (entered - loaded) * 1e6 / count, kib / count)


def under_run(program: Path, folder: Path, count: int, size: int, isolation: str) -> list[float]:
    """The same figures of an unmodified program. Memory is its own and the supervisor's."""
    sigstruct = folder / f"{size}.sig"
    if not sigstruct.exists():
        sigstruct.write_bytes(bytes(signed(size)))
    words = [*RUN, "--isolation", isolation, "--", program, folder / "bare.sgxs", sigstruct, count, size]
    with subprocess.Popen(
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        if run.stdin is None or run.stdout is None:
            raise RuntimeError("growth_table: Popen makes the pipes it is asked for")
        pids = {run.pid, *(int(word) for word in run.stdout.readline().split())}
        before = memory(*pids)
        run.stdin.write("\n")
        run.stdin.flush()
        load, enter = (float(word) / count for word in run.stdout.readline().split())
        kib = (memory(*pids) - before) / KIB / count
        run.stdin.close()
    return [load / 1e6, enter / 1e3, kib]


def compiled(folder: Path) -> Path:
    """The program; it does not know swsgx."""
    program, host = folder / "growth_target", TOP / "examples" / "host"
    sources = [TOP / "tools" / "growth_target.c", *(host / name for name in ("sgxs.c", "load.c", "call.c"))]
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
    return program


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--isolation", default="off")
    parser.add_argument("--row", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        in_process(options.row[0], options.row[1], options.isolation)
        return
    found: dict[tuple[str, int, int], list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compiled(folder)
        with (folder / "bare.sgxs").open("wb") as file:
            write_sgxs(load_plan(EXAMPLE), file)
        for _ in range(options.runs):
            for count, size in ROWS:
                command = [sys.executable, __file__, "--isolation", options.isolation, "--row"]
                printed = subprocess.check_output([*command, str(count), str(size)], text=True)
                here = [float(word) for word in printed.split()]
                there = under_run(program, folder, count, size, options.isolation)
                for way, figures in zip(WAYS, (here, there), strict=True):
                    found.setdefault((way, count, size), []).append(figures)
    print("| | enclaves | ELRANGE | load, each | of one | first entry, each | memory, each |")
    print("|---|---|---|---|---|---|---|")
    for way in WAYS:
        one = 0.0
        for count, size in ROWS:
            columns = zip(*found[way, count, size], strict=True)
            load, enter_us, kib = (statistics.median(column) for column in columns)
            one = one or load
            shown = f"{load:.1f} ms | {load / one:.2f} | {enter_us:.0f} us | {kib:.0f} KiB"
            print(f"| {way} | {count} | {size // MIB} MiB | {shown} |")


if __name__ == "__main__":
    main()
