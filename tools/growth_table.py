#!/usr/bin/env python3
"""Time and memory of 1, 10 and 100 enclaves, and of ranges that are mostly empty: the table in docs/performance.md.

Each row is a process of its own. Usage: growth_table.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from swsgx.identity.rsakey import generate_key
from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.enclave import load_plan
from swsgx.inprocess import Sgx

EXAMPLE = Path(__file__).resolve().parent.parent / "build" / "examples" / "bare.elf"
MIB = 1 << 20
ROWS = ((1, 2 * MIB), (10, 2 * MIB), (100, 2 * MIB), (1, 64 * MIB), (1, 1024 * MIB), (1, 65536 * MIB))


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def row(count: int, size: int) -> None:
    """A row's figures, for the parent to read: ms to load, us to enter and leave, KiB; of one enclave each."""
    plan = replace(load_plan(EXAMPLE), size=size)
    sigstruct = sign(unsigned(plan.measure().digest(), SigstructOptions()), generate_key())
    with Sgx(isolation="off") as sgx:
        with sgx.load(plan, sigstruct) as first:
            first.enter().check()  # what is loaded once is loaded now
        before, start = resident(), time.perf_counter()
        enclaves = [sgx.load(plan, sigstruct) for _ in range(count)]
        loaded = time.perf_counter()
        for enclave in enclaves:
            enclave.enter().check()
        entered = time.perf_counter()
        kib = (resident() - before) / 1024
    print((loaded - start) * 1e3 / count, (entered - loaded) * 1e6 / count, kib / count)


def main() -> None:
    """Print the table."""
    print("| enclaves | ELRANGE | load, each | first entry, each | memory, each |")
    print("|---|---|---|---|---|")
    for count, size in ROWS:
        command = [sys.executable, __file__, str(count), str(size)]
        runs = [
            [float(word) for word in subprocess.check_output(command, text=True).split()] for _ in range(3)
        ]
        load, enter, kib = (min(run[i] for run in runs) for i in range(3))
        print(f"| {count} | {size // MIB} MiB | {load:.1f} ms | {enter:.0f} us | {kib:.0f} KiB |")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        row(int(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
