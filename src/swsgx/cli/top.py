"""``swsgx top``: the figures of a tree that runs, again and again."""

from __future__ import annotations

import os
import sys
import time

import click

from swsgx.cli.errors import Refused, one_line
from swsgx.cli.figures import chosen, lines_of, nobody, refused_as_told
from swsgx.cli.screen import Screen
from swsgx.supervisor.trees import NoAnswer, Tree, ask

__all__ = ["command"]


@click.command("top", short_help="Show the figures of a swsgx run while it runs.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.argument("pid", type=click.IntRange(min=1), required=False)
@click.pass_context
def command(ctx: click.Context, pid: int | None, interval: float) -> None:
    """Show what `swsgx stat` shows, anew each second, with how many a second; q or Ctrl-C ends it.

    PID is of a `swsgx run`, or of any process under it; without PID: the only one that runs. Where standard output is
    no terminal, the figures are printed once in each interval. It ends when the run has ended.
    """
    with refused_as_told():
        found = chosen(pid)
        if not found:
            raise nobody()
        if len(found) > 1:
            pids = ", ".join(str(tree.pid) for tree in found)
            raise Refused(f"several are running, {pids}: name one, `swsgx top PID`; `swsgx stat` lists them")
        watched = _Watched(found[0])
        watched.look()
    on_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    ctx.exit(_live(watched, interval) if on_terminal else _printed(watched, interval))


class _Watched:
    """One tree, and what it told last."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.lines: list[str] = []
        self._before: dict[str, int] = {}
        self._at = 0.0

    def look(self) -> None:
        """Ask it once more.

        Raises:
            NoAnswer: it has ended, or does not answer.
        """
        told = ask(self.tree)
        now = time.monotonic()
        counts: dict[str, int] = told["machine"]["counts"] if told["machine"] is not None else {}
        passed = now - self._at
        rates = {
            name: (counts[name] - value) / passed for name, value in self._before.items() if name in counts
        }
        self._before, self._at = counts, now
        self.lines = lines_of(self.tree, told, rates)


def _ended(error: NoAnswer) -> int:
    """A run that has been shown has ended, or gone silent: that is how watching ends."""
    click.echo(one_line(f"swsgx top: {error}"), err=True)
    return 0


def _live(watched: _Watched, interval: float) -> int:
    due = time.monotonic() + interval
    with Screen() as screen:
        while True:
            clock = time.strftime("%H:%M:%S")
            screen.show(watched.lines, f" {clock}  every {interval:g} s  q: end")
            key = screen.wait(due - time.monotonic())
            if key in ("q", "Q", "\x03") and key:
                return 0
            if screen.ended_by:
                break
            if time.monotonic() >= due or key:
                due = time.monotonic() + interval
                try:
                    watched.look()
                except NoAnswer as error:
                    failure = error
                    break
    if screen.ended_by:
        os.kill(os.getpid(), screen.ended_by)
        return 128 + screen.ended_by
    return _ended(failure)


def _printed(watched: _Watched, interval: float) -> int:
    due = time.monotonic()
    try:
        while True:
            click.echo("\n".join([*watched.lines, ""]))
            sys.stdout.flush()
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            watched.look()
    except NoAnswer as error:
        return _ended(error)
    except KeyboardInterrupt:
        return 0
