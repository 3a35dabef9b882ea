"""``swsgx run``: an unmodified program, and all that it starts, with an SGX device."""

from __future__ import annotations

import os

import click

from swsgx.cli.errors import Refused, usage
from swsgx.cli.options import U64, existing_file
from swsgx.isa.address import PAGE_SIZE

__all__ = ["command"]


_WRITTEN = click.Path(dir_okay=False)


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


@click.command(
    "run",
    short_help="Run an unmodified program with an SGX device.",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@click.option("--epc", "epc_size", type=U64, default="128M", show_default=True, help="Size of the EPC.")
@click.option(
    "--isolation",
    type=click.Choice(["auto", "hidden", "off"]),
    default="auto",
    show_default=True,
    help="What a program sees of its enclaves from outside: docs/isolation.md.",
)
@click.option(
    "--cpu", type=click.Choice(["sgx1", "sgx2"]), default="sgx2", show_default=True, help="The CPU to be."
)
@click.option(
    "--profile",
    type=click.Choice(["6.12", "6.1", "v23"]),
    default="6.12",
    show_default=True,
    help="The kernel's driver to be.",
)
@click.option(
    "--no-patch", is_flag=True, help="Leave every byte of the program's and the enclaves' code alone."
)
@click.option(
    "--explain", is_flag=True, help="Say on stderr which rule refused a call or raised an exception."
)
@click.option("--shadow", is_flag=True, help="Hide the nodes that this machine really has.")
@click.option(
    "--trace", type=click.Path(dir_okay=False), default="", help="Write all SGX events to a file, JSON lines."
)
@click.option(
    "--log", type=click.Path(dir_okay=False), default="", help="Say things to this file, not on stderr."
)
@click.option(
    "--policy",
    type=click.Path(dir_okay=False),
    multiple=True,
    help="Have security modules enforce this policy file; may be given several times.",
)
@click.option("--lsm", multiple=True, metavar="MODULE", help="Load this security module, too.")
@click.option("--permissive", is_flag=True, help="Record what security modules refuse, and allow it.")
@click.option("--audit", type=_WRITTEN, default=None, help="Append what is refused to this file.")
@click.option(
    "--measurements", type=_WRITTEN, default=None, help="Keep the list of what was measured in this file."
)
@click.option(
    "--measurements-form",
    type=click.Choice(["ima-buf", "own"]),
    default="ima-buf",
    show_default=True,
    help="Its entries: as IMA's verifiers know them, or with templates of their own.",
)
@click.option("--tpm", metavar="TCTI", default=None, help="Extend the PCRs of this TPM; else emulated ones.")
@click.option(
    "--key",
    "keys",
    type=existing_file,
    multiple=True,
    help="Who may sign files that a policy appraises: a public key or certificate.",
)
@click.option("--paranoid", is_flag=True, help="Check the promise of the security modules at each step.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    epc_size: int,
    isolation: str,
    cpu: str,
    profile: str,
    no_patch: bool,
    explain: bool,
    shadow: bool,
    trace: str,
    log: str,
    policy: tuple[str, ...],
    lsm: tuple[str, ...],
    permissive: bool,
    audit: str | None,
    measurements: str | None,
    measurements_form: str,
    tpm: str | None,
    keys: tuple[str, ...],
    paranoid: bool,
    program: str,
    arguments: tuple[str, ...],
) -> None:
    """Run PROGRAM with its ARGUMENTS; it and whatever it starts share one SGX machine.

    The exit status is the program's, and a signal that ends it ends swsgx. 127: not found; 126: cannot be run;
    125: swsgx itself failed, or is not allowed what it needs here.
    """
    from swsgx.supervisor.run import run_program
    from swsgx.supervisor.settings import Settings

    if epc_size % PAGE_SIZE or not epc_size:
        raise Refused(
            f"--epc {epc_size:#x}: expected whole pages of {PAGE_SIZE} bytes, at least one, say 64M"
        )
    settings = Settings(
        epc_size,
        isolation,
        cpu,
        profile,
        not no_patch,
        explain,
        shadow,
        _opened(trace) if trace else -1,
        _opened(log) if log else 2,
    )
    asked = {
        "--permissive": permissive,
        "--audit": audit,
        "--measurements": measurements,
        "--tpm": tpm,
        "--key": keys,
        "--paranoid": paranoid,
    }
    lonely = next((option for option, value in asked.items() if value), "")
    if policy or lsm:
        from swsgx.cli.modules import Wanted, security

        wanted = Wanted(policy, lsm, not permissive, audit, measurements, measurements_form, tpm, keys)
        settings = settings._replace(security=security(wanted, paranoid=paranoid))
    elif lonely:
        raise usage(f"{lonely} is about security modules: give --policy or --lsm, too")
    try:
        status = run_program([program, *arguments], settings)
    except FileNotFoundError as error:
        text = "is not built: run `make -C native` (needs gcc and make), or install a wheel"
        raise Refused(f"{error.filename} {text}") from error
    ctx.exit(status)
