"""``swsgx convert``: an enclave as a ``.sgxs`` stream, or a stream with its size."""

from __future__ import annotations

import click

from swsgx.cli.options import U64, existing_file

__all__ = ["command"]


@click.command("convert", short_help="Write an enclave as a .sgxs stream.")
@click.argument("file", type=existing_file)
@click.option("-o", "--output", metavar="OUT.sgxs", required=True, help="The stream.")
@click.option("--fix-size", is_flag=True, help="FILE is an UNSIZED stream: give it its size.")
@click.option("--heap-size", type=U64, metavar="BYTES", help="Heap of a selftest ELF file (4096).")
def command(file: str, output: str, fix_size: bool, heap_size: int | None) -> None:
    """Write an enclave as a canonical .sgxs stream, with the same measurement."""
    from swsgx.cli.output import atomic_file, progress_of, write_file
    from swsgx.image.enclave import load_plan, read_file

    if fix_size:
        from swsgx.image.sgxs import fix_size as fixed

        write_file(output, fixed(file, read_file(file)))
        return
    from swsgx.image.writer import write_sgxs

    plan = load_plan(file, heap_size=heap_size)
    with progress_of("writing", plan.pages) as progress, atomic_file(output) as out:
        write_sgxs(plan, out, progress)
