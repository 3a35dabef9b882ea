"""``swsgx gdb-file``: where the file for gdb is."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["GDB_FILE", "command"]

#: gdb runs it with a Python of its own.
GDB_FILE = Path(__file__).resolve().parent.parent / "gdb" / "swsgx_gdb.py"


@click.command("gdb-file", short_help="Print the path of the file that gdb is to be given.")
def command() -> None:
    """Print the path of a file for gdb, which makes it work well with programs under `swsgx run`.

    \b
    gdb -x "$(swsgx gdb-file)" -p PID
    """  # noqa: D301 - click wants the backspace itself
    click.echo(str(GDB_FILE))
