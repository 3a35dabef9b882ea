"""Where the file for gdb is: ``python3 -m swsgx.cli.gdb``, for ``gdb -x "$(python3 -m swsgx.cli.gdb)"``."""

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
    gdb -x "$(python3 -m swsgx.cli.gdb)" -p PID
    """  # noqa: D301 - click wants the backspace itself
    click.echo(str(GDB_FILE))


if __name__ == "__main__":
    command()
