#!/usr/bin/env python3
"""What `make run` shows: an enclave from its file to its result, and an exception inside that is repaired and resumed.

Everything is real: the enclaves are built from examples/ by the C compiler, measured, signed with a fresh key, built
through the driver's ioctls, and their code runs on this machine's CPU.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console
from rich.table import Table

from swsgx.identity.rsakey import generate_key
from swsgx.identity.signature import mrsigner, verify
from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.enclave import load_plan
from swsgx.image.plan import LoadPlan
from swsgx.inprocess import DriverError, Enclave, EnclaveFault, Sgx
from swsgx.isa.flags import PageType
from swsgx.isa.sigstruct import Sigstruct
from swsgx.native.images import ImageMissing
from swsgx.trace import Event, Recorder

EXAMPLES = Path(__file__).resolve().parent.parent / "build" / "examples"
OP_NOTHING, OP_SHA256 = 0, 1
OP_DIVIDE, OP_WRITE, OP_NULL = 0, 1, 3
HANDLED = 0
out = Console(highlight=False, soft_wrap=True)


def title(number: int, text: str) -> None:
    """Begin a part."""
    out.print(f"\n[bold cyan]{number}. {text}[/]")


def show_layout(plan: LoadPlan) -> None:
    """The pages of a plan, run by run."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("offset", "pages", "type", "perm", "measured", "what"):
        table.add_column(column, justify="right" if column == "pages" else "left")
    for run in plan.entries:
        kind = PageType(run.page_type).name
        colour = {"TCS": "magenta"}.get(kind, {"r-x": "green", "rw-": "yellow"}.get(run.permissions, "white"))
        measured = "yes" if run.measured else "-"
        table.add_row(
            f"{run.offset:#08x}", str(run.count), f"[{colour}]{kind}[/]", run.permissions, measured, run.name
        )
    out.print(table)
    out.print(
        f"[dim]{plan.size // 1024} KiB of address space, {plan.pages} pages, {plan.measured_pages} measured, "
        f"{len(plan.tcs)} thread(s)[/]"
    )


def signed(plan: LoadPlan, key: rsa.RSAPrivateKey) -> Sigstruct:
    """A SIGSTRUCT for the plan."""
    options = SigstructOptions(miscselect=plan.miscselect or 0, isvprodid=1, isvsvn=1)
    return sign(unsigned(plan.measure().digest(), options), key)


def built(events: list[Event]) -> str:
    """What a build consisted of, in leaves and calls."""
    names = [
        event.name.removeprefix("SGX_IOC_ENCLAVE_") for event in events if event.kind in ("ioctl", "memory")
    ]
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in Counter(names).items())


def compute(enclave: Enclave) -> None:
    """A call with a buffer of ours, and what a call costs."""
    text = b"The enclave reads this from untrusted memory and hashes it inside. " * 1000
    digest = bytearray(32)
    enclave.enter(rdi=OP_SHA256, rsi=text, rdx=len(text), r8=digest).check()
    same = bytes(digest) == hashlib.sha256(text).digest()
    out.print(f"SHA-256 of {len(text):,} bytes, computed inside:  {digest.hex()}")
    out.print(f"hashlib says the same: [bold]{'yes' if same else 'NO'}[/]")
    if not same:
        sys.exit(1)
    for thread in range(len(enclave.tcs)):
        answer = enclave.enter(thread, rdi=OP_NOTHING, rsi=20, rdx=22).check()
        out.print(f"TCS {thread}: 20 + 22 = {answer.rsi}")
    count = 200_000
    with enclave.prepared(rdi=OP_NOTHING) as call:
        start = time.perf_counter()
        call.repeat(count)
        each = (time.perf_counter() - start) / count
    out.print(f"[dim]{count:,} calls: {each * 1e9:.0f} ns each, in and out[/]")


def repair(enclave: Enclave, what: str, expected: int, **registers: int) -> None:
    """An exception inside: what the host sees, the handler in the enclave, the resumption."""
    out.print(f"\n[bold]{what}[/]")
    fault = enclave.enter(**registers).exception
    if fault is None:
        sys.exit("first_light: the example did not fault")
    out.print(
        f"  the host sees   [red]{fault.vector.mnemonic}[/], error code {fault.error_code:#x}, "
        f"address {fault.address:#x}; registers are synthetic"
    )
    out.print(
        f"  swsgx knows     {fault.reason.rule}: expected {fault.reason.expected}, found {fault.reason.found}"
    )
    out.print(f"                  [dim]at offset {fault.offset or 0:#x}; {fault.reason.source}[/]")
    status = enclave.enter().check().rdi
    out.print(
        f"  enter again     CSSA is 1, so the enclave's own handler runs; it answers {status} "
        f"({'repaired' if status == HANDLED else 'not repaired'})"
    )
    result = enclave.resume().check().rsi
    out.print(f"  ERESUME         the call goes on and ends with [bold]{result}[/]")
    if (status, result) != (HANDLED, expected):
        sys.exit(f"first_light: expected status {HANDLED} and {expected}")


def refuse(sgx: Sgx, plan: LoadPlan, key: rsa.RSAPrivateKey) -> None:
    """A good signature, for another measurement."""
    other = sign(unsigned(hashlib.sha256(b"another enclave").digest(), SigstructOptions()), key)
    try:
        sgx.load(plan, other)
    except DriverError as error:
        out.print(f"[red]{error.strerror}[/] is all that a program is told. The reason beside it:")
        reason = error.reason
        while reason is not None:
            out.print(f"  {reason.operation}: {reason.rule}")
            out.print(f"     expected {reason.expected}, found {reason.found} [dim]({reason.source})[/]")
            reason = reason.cause
    else:
        sys.exit("first_light: a wrong signature was accepted")


def main() -> None:
    """All of it, in order."""
    out.print(
        "[bold]swsgx: SGX in software. No confidentiality: whoever owns this machine can read the EPC.[/]"
    )
    key = generate_key()
    plan = load_plan(EXAMPLES / "compute.elf")
    title(1, "An enclave file, and the pages that a loader makes of it")
    show_layout(plan)

    title(2, "Measured and signed")
    sigstruct = signed(plan, key)
    verdict = verify(sigstruct)
    out.print(f"MRENCLAVE {sigstruct.enclavehash.hex()}")
    out.print(f"MRSIGNER  {mrsigner(sigstruct).hex()}   [dim](a fresh RSA-3072 key, e = 3)[/]")
    out.print(f"signature {'good' if verdict.rsa else 'BAD'}, Q1 and Q2 {'good' if verdict.q1q2 else 'BAD'}")

    events: list[Event] = []
    recorder = Recorder([events.append])
    with Sgx(trace=recorder, isolation="off") as sgx:
        title(3, "Built through the driver's ioctls, checked by EINIT, mapped")
        enclave = sgx.load(plan, sigstruct)
        out.print(built(events))
        out.print(
            f"MRENCLAVE of the machine equals the signed one: {enclave.mrenclave == sigstruct.enclavehash}"
        )
        recorder.sinks.clear()

        title(4, "Entered: enclave code on this CPU, reading our memory")
        compute(enclave)

        title(5, "Exceptions inside, repaired by the enclave, resumed")
        faults = load_plan(EXAMPLES / "fault.elf")
        with sgx.load(faults, signed(faults, key)) as faulty:
            repair(faulty, "100 / 0, with 5 as the spare divisor", 20, rdi=OP_DIVIDE, rsi=100, rdx=0, r8=5)
            repair(faulty, "a write to a read-only page of its own", 7, rdi=OP_WRITE, rsi=7)

        title(6, "Refused, with the reason: a SIGSTRUCT for another measurement")
        refuse(sgx, plan, key)
    out.print("\n[bold green]First light.[/] Next: swsgx --help, and docs/architecture.md.")


if __name__ == "__main__":
    try:
        main()
    except (ImageMissing, OSError, EnclaveFault) as error:
        sys.exit(f"first_light: {error}")
