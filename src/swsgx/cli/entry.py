"""Where the ``swsgx`` command begins. ``swsgx run`` goes straight to its work: click alone costs as much as Python."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of the process, and exit.

    Raises:
        SystemExit: always; its code is the exit status.
    """
    match sys.argv[1:]:
        case ["run", "--", _, *_]:
            program = sys.argv[3:]
        case ["run", str(word), *_] if not word.startswith("-"):
            program = sys.argv[2:]
        case _:
            program = []
    if program:
        from swsgx.supervisor.run import run_program
        from swsgx.supervisor.settings import Settings

        with contextlib.suppress(FileNotFoundError):  # the image is not built, which the command can say
            sys.exit(run_program(program, Settings()))
    from swsgx.cli.main import main as command_line

    command_line()
