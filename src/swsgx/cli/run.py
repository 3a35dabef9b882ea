"""``swsgx run``: an unmodified program, and all that it starts, under supervision."""

from __future__ import annotations

import click

from swsgx.cli.errors import Refused

__all__ = ["command"]


@click.command(
    "run",
    short_help="Run an unmodified program under supervision.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--trap-paths",
    is_flag=True,
    help="Experimental: look at path calls in the process, as the SGX device will need.",
)
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, trap_paths: bool, program: str, arguments: tuple[str, ...]) -> None:
    """Run PROGRAM with its ARGUMENTS; whatever it starts is supervised too.

    The exit status is the program's, and a signal that ends it ends swsgx. 127: not found; 126: cannot be run;
    125: the supervisor died. Programs do not get an SGX device yet.
    """
    from swsgx.supervisor.run import run_program

    try:
        status = run_program([program, *arguments], trap_paths)
    except FileNotFoundError as error:
        text = "is not built: run `make -C native` (needs gcc and make), or install a wheel"
        raise Refused(f"{error.filename} {text}") from error
    ctx.exit(status)
