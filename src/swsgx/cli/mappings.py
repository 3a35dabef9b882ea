"""``swsgx mappings``: the enclave mappings of a tree that runs, and who authorised them."""

from __future__ import annotations

from typing import Any

import click

from swsgx.cli.errors import one_line, usage
from swsgx.cli.figures import NOT_YET, chosen, command_of, nobody, refused_as_told
from swsgx.cli.mapped_shape import MalformedError, checked
from swsgx.cli.output import show_json, show_table, write_file
from swsgx.supervisor.trees import NoAnswer, Tree, ask

__all__ = ["command"]


@click.command("mappings", short_help="Show which enclave pages a swsgx run can execute, and who allowed it.")
@click.option("--all", "everything", is_flag=True, help="Also mappings that are not executable.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option(
    "--html", "page", metavar="FILE", help="Write a page to FILE, with all mappings drawn to scale."
)
@click.argument("pid", type=click.IntRange(min=1), required=False)
def command(pid: int | None, everything: bool, as_json: bool, page: str | None) -> None:
    """Show the executable enclave mappings of the `swsgx run` that PID belongs to: which pages, and who allowed them.

    PID is the run's own, or of any process under it. Without PID: of the only one that runs; if there are several, a
    list of them.
    """
    if as_json and page is not None:
        raise usage("--json and --html are two ways to say it: choose one")
    question = "mappings-all" if everything or page is not None else "mappings"
    told: list[tuple[Tree, dict[str, Any]]] = []
    with refused_as_told():
        found = chosen(pid)
        for tree in found:
            try:
                told.append((tree, _asked(tree, question)))
            except NoAnswer as error:
                if len(found) == 1:
                    raise
                click.echo(one_line(f"swsgx mappings: {error}"), err=True)  # the others are shown
    if as_json:
        show_json({"trees": [answer for _, answer in told]})
        return
    if not told:
        raise nobody()
    if page is not None:
        from swsgx.cli.mapped_page import page_of

        write_file(page, page_of([(tree.pid, answer) for tree, answer in told]).encode())
        return
    if len(found) == 1:
        from swsgx.cli.mapped_text import show

        show(told[0][0].pid, told[0][1])
        return
    rows = [_row(*one) for one in told]
    show_table(("PID", "ENCLAVES", "MAPPINGS", "PROGRAM"), rows, right=("ENCLAVES", "MAPPINGS"))
    click.echo("\n`swsgx mappings PID` shows one of them.")


def _asked(tree: Tree, question: str) -> dict[str, Any]:
    try:
        return checked(ask(tree, question))
    except MalformedError as error:
        raise NoAnswer(f"the swsgx run of process {tree.pid}: {error}: use the same swsgx for both") from None


def _row(tree: Tree, told: dict[str, Any]) -> list[object]:
    found = told["mappings"]
    if found is None:
        return [tree.pid, "-", "-", f"{command_of(told)}  ({NOT_YET})"]
    mappings = sum(len(process["mappings"]) for process in found["processes"])
    return [tree.pid, len(found["enclaves"]), mappings, command_of(told)]
