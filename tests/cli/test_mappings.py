"""``swsgx mappings`` in a terminal and as JSON; the page is in ``test_mapped_page.py``, real processes in
``tests/supervisor/test_mappings.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swsgx.cli import mapped_words
from swsgx.cli.mapped_page import page_of
from swsgx.cli.mapped_shape import MalformedError, checked
from swsgx.cli.mapped_text import lines_of
from swsgx.supervisor import trees
from swsgx.supervisor.trees import NoAnswer, Tree
from tests.make import mapped
from tests.make.command import Command

ONE = Tree("swsgx-run/0/10/11/ff", os.geteuid(), 10, 11)
OTHER = Tree("swsgx-run/0/20/21/ff", os.geteuid(), 20, 21)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[Tree, Any]:
    """What runs, and what each tells; an exception is raised in its place."""
    answers: dict[Tree, Any] = {ONE: mapped.answer(mapped.mappings())}

    def ask(tree: Tree, question: str = "") -> dict[str, Any]:
        asked.append(question)
        if isinstance(answers[tree], Exception):
            raise answers[tree]
        return dict(answers[tree])

    asked: list[str] = []
    monkeypatch.setattr("swsgx.cli.figures.trees", lambda: list(answers))
    monkeypatch.setattr("swsgx.cli.mappings.ask", ask)
    return answers


def shown(found: dict[str, Any] | None) -> str:
    return "\n".join(lines_of(10, mapped.answer(found)))


# Which tree.


def test_when_nothing_runs_the_refusal_says_how_to_start_something(
    swsgx: Command, told: dict[Tree, Any]
) -> None:
    told.clear()
    ran = swsgx("mappings")
    assert ran.status == 1
    assert (
        ran.refusal == "swsgx mappings: no swsgx run of yours is running: start one, `swsgx run -- PROGRAM`"
    )


def test_when_nothing_runs_json_is_an_empty_list(swsgx: Command, told: dict[Tree, Any]) -> None:
    told.clear()
    ran = swsgx("mappings", "--json")
    assert (ran.status, json.loads(ran.out)) == (0, {"trees": []})


def test_a_tree_that_has_not_used_sgx_says_so(swsgx: Command, told: dict[Tree, Any]) -> None:
    told[ONE] = mapped.answer(None)
    ran = swsgx("mappings")
    assert ran.status == 0
    assert ran.out.splitlines()[1] == "no program of the tree has used SGX yet"


@pytest.mark.usefixtures("told")
def test_one_tree_is_shown_without_its_number(swsgx: Command) -> None:
    ran = swsgx("mappings")
    assert ran.status == 0
    assert ran.out.startswith("swsgx run ")
    assert "enclave 1" in ran.out


def test_several_trees_are_listed(swsgx: Command, told: dict[Tree, Any]) -> None:
    told[OTHER] = mapped.answer(None, ("./other",))
    ran = swsgx("mappings")
    head, first, second, _, hint = ran.out.splitlines()
    assert head.split() == ["PID", "ENCLAVES", "MAPPINGS", "PROGRAM"]
    assert first.split()[1:] == ["1", "1", "./server", "'x", "y'"]
    assert second.split()[1:4] == ["-", "-", "./other"]
    assert hint == "`swsgx mappings PID` shows one of them."


def test_of_several_trees_one_that_has_ended_does_not_hide_the_others(
    swsgx: Command, told: dict[Tree, Any]
) -> None:
    told[OTHER] = NoAnswer("the swsgx run of process 20 has ended")
    ran = swsgx("mappings", "--json")
    assert len(json.loads(ran.out)["trees"]) == 1
    assert ran.err == "swsgx mappings: the swsgx run of process 20 has ended\n"


def test_a_tree_that_has_ended_is_refused_in_one_line(swsgx: Command, told: dict[Tree, Any]) -> None:
    told[ONE] = NoAnswer("the swsgx run of process 10 has ended")
    ran = swsgx("mappings")
    assert (ran.status, ran.refusal) == (1, "swsgx mappings: the swsgx run of process 10 has ended")


@pytest.mark.parametrize("words", [("x",), ("0",), ("1", "2"), ("--json", "--html", "page")])
def test_words_that_make_no_sense_are_status_2(swsgx: Command, words: tuple[str, ...]) -> None:
    assert swsgx("mappings", *words).status == 2


def test_an_older_run_is_told_apart_from_one_without_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_connect", lambda *_: None)
    monkeypatch.setattr(trees, "_believe", lambda *_: None)
    monkeypatch.setattr(trees, "_read", lambda *_: b'{"version": 1, "machine": null}')
    with pytest.raises(NoAnswer, match="was started by an older swsgx"):
        trees.ask(ONE, "mappings")
    monkeypatch.setattr(trees, "_read", lambda *_: b'{"version": 1, "mappings": null}')
    assert trees.ask(ONE, "mappings")["mappings"] is None


# What is said.


@pytest.mark.usefixtures("told")
def test_json_is_what_the_tree_has_told(swsgx: Command) -> None:
    ran = swsgx("mappings", "--json")
    assert json.loads(ran.out) == {"trees": [mapped.answer(mapped.mappings())]}


def test_a_mapping_is_told_with_who_allowed_it_and_by_which_rules() -> None:
    text = shown(mapped.mappings())
    assert "0x7f0000000000-0x7f0000001000  r-x  4K of enclave 1" in text
    assert "mapped    te (/etc/acme.te:9); also capability" in text
    assert "let in    te (/etc/acme.te:5); also capability" in text
    assert "from      file /opt/acme/code.so at 0x4000 (device 8:1, inode 12) sha256:abab" in text
    assert "in list   2: encl-load, PCR 10" in text
    assert "INIT      te (/etc/acme.te:12); also capability, for process 4713 (server, user 1000)" in text


def test_another_process_that_asked_for_a_mapping_is_named() -> None:
    other = {**mapped.approval("/etc/acme.te:9"), "subject": mapped.subject(pid=99, comm="builder")}
    text = shown(
        mapped.mappings(mapped.mapping(judged={**other, "generation": 0, "current": True, "withdrawn": None}))
    )
    assert "mapped    te (/etc/acme.te:9); also capability, for process 99 (builder, user 1000)" in text


def test_without_a_policy_nobody_was_asked() -> None:
    text = shown(mapped.plain())
    assert text.count(mapped_words.NOBODY) == 3
    assert "no security modules: the plain driver asks nobody" in text
    assert "measured" not in text


def test_grants_that_a_page_needs_are_told() -> None:
    dirty = mapped.run(
        ever_w=True, augmented=True, measured=False, used=["execdirty", "augexec"], origin=None
    )
    text = shown(mapped.mappings(mapped.mapping(dirty)))
    assert "by grant  execdirty, augexec" in text
    assert "not measured  has been mapped writable and executable" in text
    assert "from      EAUG: zeros, filled by the enclave" in text


def test_a_refusal_without_effect_does_not_pass_for_a_yes() -> None:
    judged = {"subject": None, "allowed": mapped.allowed("m.te:4", overruled="a rule"), "current": True}
    text = shown(mapped.mappings(mapped.mapping(judged={**judged, "withdrawn": None})))
    assert "mapped    te only recorded its refusal (a rule, m.te:4); also capability" in text


def test_a_mapping_that_a_new_policy_does_not_allow_says_why() -> None:
    judged = {
        **mapped.approval("m.te:4"),
        "generation": 1,
        "current": True,
        "withdrawn": "type enforcement allows it (m.te)",
    }
    text = shown(mapped.mappings(mapped.mapping(judged=judged, prot="r--")))
    assert "withdrawn type enforcement allows it (m.te)" in text


def test_a_mapping_that_will_be_judged_again_says_so() -> None:
    judged = {**mapped.approval("m.te:4"), "generation": 0, "current": False, "withdrawn": None}
    assert mapped_words.STALE in shown(mapped.mappings(mapped.mapping(judged=judged)))
    assert mapped_words.STALE not in shown(mapped.mappings())


def test_a_hole_a_copy_without_access_and_too_many_runs_are_told() -> None:
    hole = {"start": mapped.BASE, "end": mapped.BASE + mapped.PAGE, "type": None}
    found = mapped.mappings(mapped.mapping(hole), mapped.mapping(accessible=False), left_off=7)
    text = shown(found)
    assert "0x7f0000000000  1 page  no page" in text
    assert "no access: a fork that was not allowed to keep it" in text
    assert "7 more runs of pages were too many for one answer" in text


def test_what_no_file_vouches_for_says_what_it_is() -> None:
    deleted = mapped.origin(deleted=True, digest=None)
    anonymous = mapped.origin(
        **{"class": "anon"}, path=None, inode=None, device=None, offset=None, digest=None
    )
    text = shown(mapped.mappings(mapped.mapping(mapped.run(origin=deleted), mapped.run(1, origin=anonymous))))
    assert "from      file /opt/acme/code.so at 0x4000 (device 8:1, inode 12) deleted" in text
    assert "from      anonymous\n" in text


def test_when_nothing_is_executable_the_way_to_more_is_told() -> None:
    empty = mapped.mappings()
    empty["processes"][0]["mappings"] = []
    assert "`--all` shows what is mapped otherwise" in shown(empty)
    assert "no enclave is mapped now" in shown({**empty, "all": True})


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (("a.te:1", "a.te:9", "b.te:2"), "a.te:1,9, b.te:2"),
        (("C:/x y:3",), "C:/x y:3"),
        (("policy",), "policy"),
    ],
)
def test_rules_of_one_file_are_told_together(rules: tuple[str, ...], text: str) -> None:
    assert mapped_words.rules_of(rules) == text


# Names.

HOSTILE = "\x1b[2J\x1b]0;x\x07<b>&\"'\n\u202egpj\u2066.\udcff\x9b"


def hostile() -> dict[str, Any]:
    """An answer in which everything that a program can choose is as bad as can be."""
    who = mapped.subject(comm=HOSTILE, exe=HOSTILE, pid=99)
    judged = {
        **mapped.approval(HOSTILE),
        "subject": who,
        "generation": 0,
        "current": True,
        "withdrawn": HOSTILE,
    }
    found = mapped.mappings(
        mapped.mapping(
            mapped.run(origin=mapped.origin(path=f"/{HOSTILE}", label=HOSTILE), admitted=judged),
            judged=judged,
        ),
        enclaves=[mapped.enclave(label=HOSTILE, sigstruct=mapped.origin(path=HOSTILE), init=judged)],
    )
    found["processes"][0]["name"] = HOSTILE
    found["security"]["modules"] = [HOSTILE]
    return mapped.answer(found, (HOSTILE,))


def test_no_name_can_move_the_cursor_or_add_a_line() -> None:
    lines = lines_of(10, hostile())
    assert all(c.isprintable() for line in lines for c in line)
    assert len(lines) == len(lines_of(10, mapped.answer(mapped.mappings()))) + 1  # withdrawn


def test_json_of_hostile_names_is_ascii(swsgx: Command, told: dict[Tree, Any]) -> None:
    told[ONE] = hostile()
    ran = swsgx("mappings", "--json")
    assert ran.out.isascii()
    assert json.loads(ran.out)["trees"][0]["program"] == [HOSTILE]


def everywhere(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each member of an answer."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from everywhere(one, (*path, name))


WAYS = sorted(everywhere(mapped.answer(mapped.mappings())), key=str)


@pytest.mark.parametrize("nonsense", [{"a": []}, "<script>\x1b[2J", -1, 1 << 64, None, [None], 1.5])
def test_nonsense_anywhere_is_refused_or_harmless(nonsense: object) -> None:
    """Whoever answers root may be anybody."""
    for way in WAYS:
        told = mapped.answer(mapped.mappings())
        inner: Any = told
        for name in way[:-1]:
            inner = inner[name]
        inner[way[-1]] = nonsense
        try:
            found = checked(told)
        except MalformedError:
            continue
        assert all(c.isprintable() for line in lines_of(10, found) for c in line), way
        assert "<script" not in page_of([(10, found)]), way


def test_a_range_that_ends_before_it_begins_is_refused(swsgx: Command, told: dict[Tree, Any]) -> None:
    told[ONE] = mapped.answer(mapped.mappings(mapped.mapping(mapped.run(0, 0))))
    ran = swsgx("mappings")
    assert ran.status == 1
    assert "a range ends before it begins: use the same swsgx for both" in ran.refusal


def test_members_that_are_new_do_no_harm() -> None:
    found = mapped.mappings(mapped.mapping(mapped.run(new={"x": [1]})), new=1)
    assert checked(mapped.answer(found))["mappings"] == found


def test_a_page_is_written_whole_with_hostile_names(
    swsgx: Command, told: dict[Tree, Any], tmp_path: Path
) -> None:
    told[ONE] = hostile()
    ran = swsgx("mappings", "--html", tmp_path / "page.html")
    assert (ran.status, ran.out) == (0, "")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").endswith("</html>\n")


@pytest.mark.usefixtures("told")
def test_a_page_that_cannot_be_written_is_refused_with_its_name(swsgx: Command, tmp_path: Path) -> None:
    ran = swsgx("mappings", "--html", tmp_path / "none" / "page.html")
    assert ran.status == 1
    assert "none/page.html" in ran.refusal
