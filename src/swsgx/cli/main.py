"""``swsgx``: the group of commands, the options that all share, and what becomes of errors.

Exit statuses: 0 done, and the answer is yes; 1 refused, or the answer is no; 2 the command line makes no sense;
3 a bug of swsgx. Every failure is one line on standard error, ``swsgx COMMAND: FILE: what is wrong``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import click

from swsgx.cli.errors import EXIT_BUG, EXIT_REFUSED, EXIT_USAGE, Refused, one_line
from swsgx.trace import Reason, Recorder

if TYPE_CHECKING:
    pass

__all__ = ["COMMANDS", "Shared", "main", "swsgx"]

#: The commands and the modules that hold them, each as ``command``.
COMMANDS = {
    "convert": "swsgx.cli.convert",
    "doctor": "swsgx.cli.doctor",
    "enter": "swsgx.cli.enter",
    "gdb-file": "swsgx.cli.gdb",
    "inspect": "swsgx.cli.inspect",
    "keygen": "swsgx.cli.keygen",
    "mappings": "swsgx.cli.mappings",
    "measure": "swsgx.cli.measure",
    "policy": "swsgx.cli.policy",
    "run": "swsgx.cli.run",
    "sign": "swsgx.cli.sign",
    "stat": "swsgx.cli.stat",
    "top": "swsgx.cli.top",
    "verify": "swsgx.cli.verify",
}

_PROMISE = (
    "swsgx is a test tool. It gives NO confidentiality: whoever owns the machine can read every enclave.\n"
    "Its keys and certificates are test ones."
)
_SIGINT_STATUS = 130


class Shared:
    """What the group's options give to each command, as the context's object.

    Attributes:
        trace: where to report events; off without ``--trace``.
        explain: whether a refusal is told at length.
    """

    def __init__(self, trace: Recorder, explain: bool) -> None:
        self.trace = trace
        self.explain = explain


class _Commands(click.Group):
    """The group: loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name]}.command is not a command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # ``--trace`` may stand alone: the word after it is its value only if it is one of the two.
        given = list(args)
        for i, word in enumerate(given):
            if word == "--" or not word.startswith("-"):
                break
            if word == "--trace" and given[i + 1 : i + 2] not in (["text"], ["json"]):
                given[i] = "--trace=text"
            elif word == "--trace":
                given[i : i + 2] = [f"--trace={given[i + 1]}"]
        return super().parse_args(ctx, given)


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("swsgx")
        except PackageNotFoundError:
            number = "(not installed)"
        click.echo(f"swsgx {number}\n{_PROMISE}")
        ctx.exit()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=False,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and what swsgx does not promise.",
)
@click.option(
    "--trace",
    type=click.Choice(["text", "json"]),
    metavar="[text|json]",
    help="Report what happens on standard error, as text or as one JSON object a line.",
)
@click.option("--explain", is_flag=True, help="Tell a refusal at length: rule, source and remedy.")
@click.pass_context
def swsgx(ctx: click.Context, trace: str | None, explain: bool) -> None:
    """An SGX machine in software: make keys, measure, sign, inspect, verify and enter enclaves.

    swsgx is a test tool. It gives NO confidentiality: whoever owns the machine can read every enclave.
    """
    recorder = Recorder()
    if trace is not None:
        from swsgx.trace import to_json_lines, to_text

        recorder.sinks.append(to_json_lines(sys.stderr) if trace == "json" else to_text(sys.stderr))
    ctx.obj = Shared(recorder, explain)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        args: the words after the program's name; those of the process if None.

    Raises:
        SystemExit: always; its code is the exit status.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        status = swsgx.main(words, prog_name="swsgx", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader had enough; click says the same where it notices first. Nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_REFUSED)
    except (KeyboardInterrupt, click.Abort):
        click.echo("swsgx: interrupted", err=True)
        sys.exit(_SIGINT_STATUS)
    except Exception as error:
        sys.exit(_report(error, words))
    sys.exit(status if isinstance(status, int) else 0)


def _report(error: Exception, words: list[str]) -> int:
    """Say what went wrong; returns the exit status."""
    name = " ".join(["swsgx", *[w for w in words if w in COMMANDS][:1]])
    reason = getattr(error, "reason", None)
    if isinstance(error, click.UsageError):
        usage_of = error.ctx.command_path if error.ctx is not None else name
        click.echo(one_line(f"{usage_of}: {error.format_message()} (try '{usage_of} --help')"), err=True)
        return EXIT_USAGE
    if isinstance(error, click.FileError):
        text = f"{error.ui_filename}: {error.message}"
    elif isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(reason, Reason) and (hasattr(error, "file") or isinstance(error, OSError)):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
    elif isinstance(error, MemoryError):
        text = "out of memory"
    else:
        if os.environ.get("SWSGX_TRACEBACK"):
            raise error
        bug = f"{type(error).__name__}: {error}"
        click.echo(one_line(f"{name}: a bug in swsgx: {bug} (SWSGX_TRACEBACK=1 shows where)"), err=True)
        return EXIT_BUG
    click.echo(one_line(f"{name}: {text}"), err=True)
    if isinstance(reason, Reason) and "--explain" in words:
        for line in reason.lines():
            click.echo(line, err=True)
    return error.exit_code if isinstance(error, Refused) else EXIT_REFUSED
