#!/usr/bin/env python3
"""Time and memory of building enclaves from 1 MiB to 4 GiB: the table in docs/performance.md.

Usage: construction_table.py [LARGEST_MIB]. Each row is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import mmap
import resource
import subprocess
import sys
import time

from swsgx.inprocess import Sgx
from swsgx.inprocess.memory import aligned_buffer
from swsgx.isa.address import PAGE_SIZE
from swsgx.isa.flags import Attributes
from swsgx.isa.structs import Secinfo, Secs
from swsgx.linux.uapi import PAGE_MEASURE, SGX_IOC_ENCLAVE_ADD_PAGES, EnclaveAddPages
from swsgx.native.images import address_of

MIB = 1 << 20
CHUNK = 64 * MIB
RW_REG = 0x203


def build(size: int, flags: int) -> float:
    """Seconds of all ADD_PAGES of an enclave of ``size`` bytes, from one buffer of at most 64 MiB."""
    source = mmap.mmap(-1, min(size, CHUNK))
    view = memoryview(source)
    view[:] = bytes(range(256)) * (len(view) // 256)
    start = 0.0
    with Sgx(epc_size=size + size // 256 + 8 * MIB) as sgx:
        file = sgx.driver.open_enclave()
        secs = Secs.of(
            size=2 * size, baseaddr=2 * size, ssaframesize=1, attributes=Attributes.MODE64BIT, xfrm=3
        )
        sgx.loader(file).create(secs)
        with aligned_buffer(PAGE_SIZE) as (page, address):
            page[128 : 128 + Secinfo.size_of] = Secinfo.of(flags=RW_REG).buffer
            start = time.perf_counter()
            for offset in range(0, size, len(view)):
                argument = EnclaveAddPages.of(
                    src=address_of(view), offset=offset, length=len(view), secinfo=address + 128, flags=flags
                )
                page[: argument.size_of] = argument.buffer
                outcome = file.ioctl(sgx.task, SGX_IOC_ENCLAVE_ADD_PAGES, address)
                if not outcome.ok or EnclaveAddPages(page).count != len(view):
                    sys.exit(f"construction_table: {outcome.reason}")
            seconds = time.perf_counter() - start
        file.close()
    return seconds


def one(size: int, flags: int) -> None:
    """A row's figure, for the parent to read: seconds, and peak memory beyond the enclave and its source in MiB."""
    seconds = build(size, flags)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(seconds, (peak - min(size, CHUNK)) / MIB)


def measured_in_a_process(size: int, flags: int) -> tuple[float, float]:
    """The better of two runs, each in a fresh process."""
    runs = []
    for _ in range(2):
        command = [sys.executable, __file__, "--one", str(size), str(flags)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        runs.append((float(out[0]), float(out[1])))
    return min(runs)


def main() -> None:
    """Print the table."""
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    print("| size | measured | per MiB | unmeasured | per MiB | peak memory |")
    print("|---|---|---|---|---|---|")
    mib = 1
    while mib <= largest:
        slow, peak = measured_in_a_process(mib * MIB, PAGE_MEASURE)
        fast, _ = measured_in_a_process(mib * MIB, 0)
        print(
            f"| {mib} MiB | {slow * 1e3:.1f} ms | {slow * 1e3 / mib:.2f} ms | {fast * 1e3:.1f} ms "
            f"| {fast * 1e3 / mib:.2f} ms | {peak:.0f} MiB |",
            flush=True,
        )
        mib *= 4


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
