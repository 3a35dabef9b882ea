"""``swsgx measure``: MRENCLAVE of an enclave file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swsgx.cli.options import U64, existing_file

if TYPE_CHECKING:
    from swsgx.cli.main import Shared

__all__ = ["command"]


@click.command("measure", short_help="Print an enclave's MRENCLAVE.")
@click.argument("file", type=existing_file)
@click.option("--heap-size", type=U64, metavar="BYTES", help="Heap of a selftest ELF file (4096).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the bare digest.")
@click.pass_obj
def command(shared: Shared, /, file: str, heap_size: int | None, as_json: bool) -> None:
    """Print the measurement (MRENCLAVE) of an enclave: an ELF file or a .sgxs stream.

    A stream that is not canonical is measured too, with a warning: hardware would take it, loaders do not.
    """
    from swsgx.cli.enclaves import read_enclave
    from swsgx.cli.errors import Refused, one_line
    from swsgx.cli.output import show_json

    enclave = read_enclave(file, heap_size)
    digest = enclave.mrenclave(shared.trace)
    if digest is None:
        raise Refused(f"{file}: the stream has no size yet, so no measurement; see swsgx convert --fix-size")
    violations = [] if enclave.stream is None else enclave.stream.violations
    if as_json:
        show_json({"file": file, "mrenclave": digest, "violations": [v.reason.as_dict() for v in violations]})
    else:
        for violation in violations[:1]:
            more = f" (and {len(violations) - 1} more)" if violations[1:] else ""
            click.echo(one_line(f"swsgx measure: warning: not canonical: {violation}{more}"), err=True)
        click.echo(digest.hex())
