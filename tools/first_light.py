#!/usr/bin/env python3
"""What `make run` shows: a program that knows nothing of swsgx builds an enclave and calls it, without SGX hardware.

Everything is real: enclaves and program are built from examples/ by the C compiler; the commands shown are run; the
program goes through /dev/sgx_enclave and the vDSO; the enclave's code runs on this machine's CPU. The key, the
signatures and the .sgxs file stay in build/examples, to go on with.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console
from rich.table import Table

from swsgx.identity.rsakey import generate_key
from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.enclave import load_plan
from swsgx.image.plan import LoadPlan
from swsgx.inprocess import Enclave, EnclaveFault, Sgx
from swsgx.isa.flags import PageType
from swsgx.isa.sigstruct import Sigstruct
from swsgx.native.images import ImageMissing

EXAMPLES = Path(__file__).resolve().parent.parent / "build" / "examples"
SWSGX = [sys.executable, "-c", "from swsgx.cli.entry import main; main()"]
CALLS = 2000
OP_DIVIDE, OP_WRITE = 0, 1
HANDLED = 0
out = Console(highlight=False, soft_wrap=True)


def title(number: int, text: str) -> None:
    """Begin a part."""
    out.print(f"\n[bold cyan]{number}. {text}[/]")


def command(line: str, status: int = 0) -> None:
    """Show a command and run it; the end, if its exit status is another one."""
    out.print(f"$ {line}", style="bold", markup=False)
    sys.stdout.flush()
    words = shlex.split(line)
    if words[0] == "swsgx":
        words[:1] = SWSGX
    ended = subprocess.run(words, cwd=EXAMPLES, stderr=subprocess.STDOUT, check=False).returncode
    if ended != status:
        sys.exit(
            f"first_light: {line}: expected exit status {status}, found {ended}; what does swsgx doctor say?"
        )


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


def spoil(name: str, into: str) -> None:
    """A copy of a signature with one bit of its ENCLAVEHASH changed."""
    sigstruct = Sigstruct.copy_of((EXAMPLES / name).read_bytes())
    hashed = bytearray(sigstruct.enclavehash)
    hashed[0] ^= 1
    sigstruct.enclavehash = bytes(hashed)
    (EXAMPLES / into).write_bytes(bytes(sigstruct))


def signed(plan: LoadPlan, key: rsa.RSAPrivateKey) -> Sigstruct:
    """A SIGSTRUCT for the plan."""
    return sign(unsigned(plan.measure().digest(), SigstructOptions(miscselect=plan.miscselect or 0)), key)


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


def main() -> None:
    """All of it, in order."""
    out.print(
        "[bold]swsgx: SGX in software. No confidentiality: whoever owns this machine can read the EPC.[/]"
    )
    out.print("[dim]The commands below are run in build/examples.[/]")
    title(1, "An enclave file, and the pages that a loader makes of it")
    show_layout(load_plan(EXAMPLES / "compute.elf"))

    title(2, "Measured, signed, and written as a .sgxs file, which any loader can read")
    command("swsgx keygen -o key.pem --force")
    command("swsgx measure compute.elf")
    command("swsgx sign compute.elf -k key.pem -o compute.sig")
    command("swsgx verify compute.sig --enclave compute.elf")
    command("swsgx convert compute.elf -o compute.sgxs")

    title(3, "A C program that knows only the kernel's headers: /dev/sgx_enclave, its ioctls, the vDSO")
    out.print(
        "[dim]It is in examples/host. Vectors, error codes, addresses: what it finds in sgx_enclave_run.[/]"
    )
    if not Path("/dev/sgx_enclave").exists():
        out.print("[dim]Alone, on this machine, it comes not far:[/]")
        command("./host compute.sgxs compute.sig", status=1)
    command("swsgx run -- ./host compute.sgxs compute.sig")

    title(4, "What a call costs, with the enclave hidden from the program while it is outside, and without")
    command(f"swsgx run -- ./host compute.sgxs compute.sig calls {CALLS}")
    command(f"swsgx run --isolation off -- ./host compute.sgxs compute.sig calls {CALLS * 40}")

    title(
        5, "A bit of the signature's ENCLAVEHASH is changed: what the program is told, and what you are told"
    )
    spoil("compute.sig", "spoilt.sig")
    command("swsgx run --explain -- ./host compute.sgxs spoilt.sig", status=1)

    title(
        6,
        "A policy, as SELinux has them: enclave code comes from approved files, and not out of the heap of a program",
    )
    approved = "../../examples/question/approved.te"
    command(f"swsgx run --policy {approved} --explain -- ./host compute.sgxs compute.sig", status=1)

    title(7, "The same machine in Python: exceptions inside, repaired by the enclave, resumed")
    faults = load_plan(EXAMPLES / "fault.elf")
    with Sgx() as sgx, sgx.load(faults, signed(faults, generate_key())) as faulty:
        repair(faulty, "100 / 0, with 5 as the spare divisor", 20, rdi=OP_DIVIDE, rsi=100, rdx=0, r8=5)
        repair(faulty, "a write to a read-only page of its own", 7, rdi=OP_WRITE, rsi=7)
    out.print("\n[bold green]First light.[/] Next: swsgx --help, docs/run.md, and docs/architecture.md.")


if __name__ == "__main__":
    try:
        main()
    except (ImageMissing, OSError, EnclaveFault) as error:
        sys.exit(f"first_light: {error}")
