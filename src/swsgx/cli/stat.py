"""``swsgx stat``: the figures of a tree that runs, once."""

from __future__ import annotations

from typing import Any

import click

from swsgx.cli.errors import one_line
from swsgx.cli.figures import NOT_YET, chosen, command_of, lines_of, nobody, refused_as_told
from swsgx.cli.output import show_json, show_table
from swsgx.supervisor.trees import NoAnswer, Tree, ask

__all__ = ["command"]


@click.command("stat", short_help="Show how full the EPC of a swsgx run is, and its enclaves.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.argument("pid", type=click.IntRange(min=1), required=False)
def command(pid: int | None, as_json: bool) -> None:
    """Show the figures of the `swsgx run` that PID belongs to: PID is its own, or of any process under it.

    Without PID: of the only one that runs; if there are several, a list of them.
    """
    told: list[tuple[Tree, dict[str, Any]]] = []
    with refused_as_told():
        found = chosen(pid)
        for tree in found:
            try:
                told.append((tree, ask(tree)))
            except NoAnswer as error:
                if len(found) == 1:
                    raise
                click.echo(one_line(f"swsgx stat: {error}"), err=True)  # the others are shown
    if as_json:
        show_json({"trees": [answer for _, answer in told]})
        return
    if not told:
        raise nobody()
    if len(found) == 1:
        click.echo("\n".join(lines_of(*told[0])))
        return
    show_table(("PID", "ENCLAVES", "EPC", "PROGRAM"), [_row(*one) for one in told], right=("ENCLAVES", "EPC"))
    click.echo("\n`swsgx stat PID` shows one of them.")


def _row(tree: Tree, told: dict[str, Any]) -> list[object]:
    machine = told["machine"]
    if machine is None:
        return [tree.pid, "-", "-", f"{command_of(told)}  ({NOT_YET})"]
    used = 100 * (machine["epc_total"] - machine["epc_free"]) / machine["epc_total"]
    return [tree.pid, len(machine["enclaves"]), f"{used:.0f}%", command_of(told)]
