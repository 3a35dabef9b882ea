"""Files become policies: what each is, what it is for audit, and what is no policy at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from swsgx.lsm.policy.errors import MAX_PROBLEMS, PolicyError, Problem
from swsgx.lsm.policy.load import kind_of, load
from swsgx.lsm.policy.source import MAX_SIZE, Source
from tests.lsm.policy.conftest import IDENTITY, TE, Load, Mistakes


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (TE, "te"),
        ("# c\n\n  policy_module(m, 1)", "te"),
        ("type a;", "te"),
        ("policy_module", "te"),
        (IDENTITY, "identity"),
        ("op=ENCLAVE_INIT", "identity"),
        ("DEFAULT action=DENY", "identity"),
        ("\n\t# measure\npolicy_name=x", "identity"),
        ("measure", "integrity"),
        ("dont_appraise func=x", "integrity"),
        ("audit func=x", "integrity"),
    ],
)
def test_a_file_is_known_by_its_first_statement(text: str, kind: str) -> None:
    assert kind_of(Source("x", text.encode())) == kind


@pytest.mark.parametrize("text", ["", "\n \n# only this", "hello", "<xml>", "measured", "\u2028x", "7"])
def test_a_file_that_begins_like_nothing_is_no_policy(text: str) -> None:
    assert isinstance(kind_of(Source("x", text.encode())), Problem)


def test_what_was_loaded_is_named_with_version_and_digest(loaded: Load) -> None:
    texts = (TE + "type a;", IDENTITY, "measure\nappraise")
    files = loaded(*texts).files
    assert [(f.kind, f.name, f.version, f.rule_count) for f in files] == [
        ("te", "m", "1.0", 1),
        ("identity", "p", "1.0.0", 0),
        ("integrity", "f2", "", 2),
    ]
    assert [f.digest for f in files] == [hashlib.sha256(text.encode()).digest() for text in texts]


def test_a_kind_without_a_file_is_none(loaded: Load) -> None:
    policy = loaded("measure")
    assert (policy.te, policy.identity) == (None, None)


def test_mistakes_of_all_files_are_told_together_in_their_order(mistakes: Mistakes) -> None:
    problems = mistakes(TE + "type ;\nallow x x : enclave use;\ntype $;", IDENTITY + "what=1", "measure 7")
    assert [(p.place.file, p.place.line) for p in problems] == [
        ("f0", 2),
        ("f0", 3),
        ("f0", 3),
        ("f0", 4),
        ("f1", 3),
        ("f2", 1),
    ]


def test_many_mistakes_are_cut_short(mistakes: Mistakes) -> None:
    assert len(mistakes(TE + "type ;\n" * 1000)) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("data", "line", "column", "found"),
    [
        (b"measure\nme\0asure", 2, 3, "a NUL byte"),
        (b"measure\n# \xc3\xa9\xff", 2, 4, "byte 0xff"),
        (b"\xff\xfem\0", 1, 4, "a NUL byte"),
        (b"# \xc3", 1, 3, "byte 0xc3"),
        (b"#" * (MAX_SIZE + 1), 1, 1, "more"),
    ],
)
def test_what_is_no_text_is_refused_at_its_place(
    mistakes: Mistakes, data: bytes, line: int, column: int, found: str
) -> None:
    (problem,) = mistakes(data)
    assert (problem.place.line, problem.place.column, problem.found) == (line, column, found)


def test_all_files_that_are_no_text_are_told(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"\0")
    with pytest.raises(PolicyError) as caught:
        load([str(tmp_path / name) for name in "ab"])
    assert len(caught.value.problems) == 2


def test_a_file_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        load(["/nowhere/at.all"])


def test_lines_may_end_as_on_other_systems(loaded: Load, mistakes: Mistakes) -> None:
    loaded(
        (TE + "type a;\n").replace("\n", "\r\n"), IDENTITY.replace("\n", "\r\n"), "measure uid=1\r\nmeasure"
    )
    (problem,) = mistakes("measure uid=1\r\nmeasure $\r\n")
    assert list(problem.lines())[1:] == ["    measure $", "            ^"]


def test_the_caret_stands_under_what_is_wrong_in_long_lines_and_behind_tabs(mistakes: Mistakes) -> None:
    (problem,) = mistakes("measure\tuid=1\tfsname=" + "e" * 100 + " colour=\x1bred subj_type=" + "x" * 1000)
    first, line, caret = problem.lines()
    assert "\x1b" not in first
    assert len(line) <= 104
    assert line[caret.index("^")] == "c"
    assert line.isprintable()


def test_an_error_in_one_line_says_the_first_and_how_many_more(mistakes: Mistakes) -> None:
    text = str(PolicyError(mistakes(TE + "type ;\ntype ;")))
    assert text.startswith("f0:2:6: syntax: found ';'")
    assert text.endswith("(and 1 more)")


def test_a_reason_has_the_four_facts(mistakes: Mistakes) -> None:
    reason = PolicyError(mistakes("measure pcr=77")).reason
    assert (reason.operation, reason.found) == ("policy", "'77'")
    assert reason.expected


def test_deep_nesting_and_endless_statements_are_mistakes_and_not_tracebacks(mistakes: Mistakes) -> None:
    mistakes(TE + "allow " + "{ " * 50_000 + "a" + " }" * 50_000 + " b : enclave use;")
    mistakes(TE + "allow { " + "a " * 200_000)
    mistakes(TE + 'filecon "/' + "(" * 4000 + '" a')
    mistakes("measure " + "uid=1 " * 50_000)
