"""``swsgx stat`` and ``swsgx top`` where nothing answers; with trees: ``tests/supervisor/test_stat.py``."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from swsgx.cli.figures import lines_of, size
from swsgx.supervisor import trees
from swsgx.supervisor.trees import NoAnswer, Tree
from tests.make.command import Command

TREE = Tree("swsgx-run/0/10/11/ff", os.geteuid(), 10, 11)
MACHINE: dict[str, Any] = {
    "epc_total": 1024,
    "epc_free": 768,
    "reclaimable": 200,
    "counts": {"faults": 1, "ewb": 2, "eldu": 3, "eaug": 4, "eenter": 5, "aex": 6},
    "eenter_exact": True,
    "enclaves": [],
    "processes": [],
}


@pytest.fixture
def no_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("swsgx.supervisor.trees", "swsgx.cli.figures"):
        monkeypatch.setattr(f"{module}.trees", list)


@pytest.fixture
def one_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swsgx.cli.figures.trees", lambda: [TREE])

    def silent(_tree: Tree) -> dict[str, Any]:
        raise NoAnswer("the swsgx run of process 10 has ended")

    for module in ("stat", "top"):
        monkeypatch.setattr(f"swsgx.cli.{module}.ask", silent)


@pytest.mark.parametrize("name", ["stat", "top"])
@pytest.mark.usefixtures("no_trees")
def test_when_nothing_runs_the_refusal_says_how_to_start_something(swsgx: Command, name: str) -> None:
    ran = swsgx(name)
    assert ran.status == 1
    assert ran.refusal == (
        f"swsgx {name}: no swsgx run of yours is running: start one, `swsgx run -- PROGRAM`"
    )


@pytest.mark.usefixtures("no_trees")
def test_when_nothing_runs_json_is_an_empty_list(swsgx: Command) -> None:
    ran = swsgx("stat", "--json")
    assert (ran.status, json.loads(ran.out)) == (0, {"trees": []})


@pytest.mark.parametrize("name", ["stat", "top"])
@pytest.mark.usefixtures("no_trees")
def test_a_process_under_no_run_and_one_that_is_not_there_are_told_apart(swsgx: Command, name: str) -> None:
    mine = swsgx(name, os.getpid())
    assert (mine.status, f"{os.getpid()}: belongs to no swsgx run" in mine.refusal) == (1, True)
    absent = swsgx(name, 1 << 30)
    assert (absent.status, f"{1 << 30}: no such process" in absent.refusal) == (1, True)


@pytest.mark.parametrize("name", ["stat", "top"])
@pytest.mark.usefixtures("one_that_is_silent")
def test_a_run_that_ends_just_now_is_refused_in_one_line(swsgx: Command, name: str) -> None:
    ran = swsgx(name)
    assert ran.status == 1
    assert ran.refusal == f"swsgx {name}: the swsgx run of process 10 has ended"


@pytest.mark.parametrize(
    "words",
    [
        ("stat", "x"),
        ("stat", "0"),
        ("stat", "-5"),
        ("stat", "1", "2"),
        ("top", "--interval", "0"),
        ("top", "-1"),
    ],
)
def test_a_number_that_makes_no_sense_is_status_2(swsgx: Command, words: tuple[str, ...]) -> None:
    ran = swsgx(*words)
    assert ran.status == 2
    assert "--help" in ran.refusal


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (b'{"version": 99}', "speaks version 99, this swsgx 1: use the same swsgx for both"),
        (b'{"vers', "what it says breaks off"),
        (b"[]", "what it says breaks off"),
        (b'{"version": 1, "bug": "KeyError: 1"}', "a bug in swsgx: KeyError: 1"),
    ],
)
def test_an_answer_that_is_not_understood_is_refused(
    said: bytes, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "_connect", lambda *_: None)
    monkeypatch.setattr(trees, "_read", lambda *_: said)
    monkeypatch.setattr(trees, "_believe", lambda *_: None)
    with pytest.raises(NoAnswer, match=refused):
        trees.ask(TREE)


@pytest.mark.parametrize(
    ("count", "text"), [(4096, "4K"), (1 << 24, "16M"), (3 << 30, "3G"), (100, "100"), (5000, "5000")]
)
def test_sizes_are_exact(count: int, text: str) -> None:
    assert size(count) == text


def test_totals_have_rates_beside_them_where_something_happens() -> None:
    told = {"program": ["a b"], "machine": MACHINE}
    lines = lines_of(TREE, told, {"ewb": 12.0, "faults": 0.1})
    assert lines[0].endswith(": 'a b'")
    assert lines[1] == "EPC 4M: 1024 pages, 768 free, 256 used (25%), 200 reclaimable"
    assert lines[2] == "page faults 1  EWB 2 (+12/s)  ELDU 3  EAUG 4  EENTER 5  AEX 6"


def test_a_command_line_cannot_move_the_cursor() -> None:
    told = {"program": ["\x1b[2J\n"], "machine": None}
    assert "\x1b" not in "".join(lines_of(TREE, told))
