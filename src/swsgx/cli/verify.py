"""``swsgx verify``: separate verdicts on a SIGSTRUCT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swsgx.cli.errors import EXIT_REFUSED
from swsgx.cli.options import U64, existing_file

if TYPE_CHECKING:
    from swsgx.cli.main import Shared
    from swsgx.trace import Reason

__all__ = ["command"]


@click.command("verify", short_help="Check a SIGSTRUCT.")
@click.argument("file", metavar="FILE.sig", type=existing_file)
@click.option("-e", "--enclave", type=existing_file, metavar="FILE", help="Measure this enclave and compare.")
@click.option("--heap-size", type=U64, metavar="BYTES", help="Heap of a selftest ELF file (4096).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def command(ctx: click.Context, file: str, enclave: str | None, heap_size: int | None, as_json: bool) -> None:
    """Check a SIGSTRUCT as EINIT would, each check apart.

    \b
    header       constant fields, vendor, exponent, reserved bytes
    rsa          the RSA signature alone
    q1q2         the signature as EINIT computes it, with the stored quotients
    measurement  ENCLAVEHASH is the measurement of the enclave

    The exit status is 1 if any of them fails.
    """  # noqa: D301 - click wants the backspace itself
    from swsgx.cli.enclaves import read_enclave, read_sigstruct
    from swsgx.cli.errors import one_line
    from swsgx.cli.output import show_json
    from swsgx.identity.signature import mrsigner, verify

    sigstruct = read_sigstruct(file)
    result = verify(sigstruct)
    verdicts: dict[str, Reason | None] = {
        "header": result.header_reason,
        "rsa": result.rsa_reason,
        "q1q2": result.q1q2_reason,
    }
    computed = None
    if enclave is not None:
        shared: Shared = ctx.obj
        computed = read_enclave(enclave, heap_size).mrenclave(shared.trace)
        verdicts["measurement"] = _measurement_reason(computed, sigstruct.enclavehash)
    if as_json:
        show_json(
            {
                "file": file,
                "verdicts": {name: reason is None for name, reason in verdicts.items()},
                "reasons": {
                    name: reason.as_dict() for name, reason in verdicts.items() if reason is not None
                },
                "mrenclave": {"signed": sigstruct.enclavehash, "computed": computed},
                "mrsigner": mrsigner(sigstruct),
            }
        )
    else:
        for name, reason in verdicts.items():
            click.echo(f"{name:<12} ok" if reason is None else one_line(f"{name:<12} FAILED  {reason}"))
        if enclave is None:
            click.echo(f"{'measurement':<12} not checked (--enclave FILE)")
    failed = [name for name, reason in verdicts.items() if reason is not None]
    if failed:
        click.echo(one_line(f"swsgx verify: {file}: failed: {', '.join(failed)}"), err=True)
        ctx.exit(EXIT_REFUSED)


def _measurement_reason(computed: bytes | None, signed: bytes) -> Reason | None:
    from swsgx.isa.layout import SDM
    from swsgx.trace import Reason

    if computed == signed:
        return None
    found = "a stream without a size" if computed is None else computed.hex()
    rule = "ENCLAVEHASH is the measurement of the enclave"
    return Reason("EINIT", rule, signed.hex(), found, f"{SDM}, 'EINIT'")
