"""Assertions about a policy: what holds, what does not, and what is no assertion."""

from __future__ import annotations

from pathlib import Path

import pytest

from swsgx.lsm.policy.errors import PolicyError
from swsgx.lsm.policy.expectations import Outcome, check_expectations
from tests.lsm.policy.conftest import IDENTITY, TE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.te").write_text(
        TE
        + 'type a; type b; type c;\nallow a b : enclave { use load };\nfilecon "/x" b\nsubjcon exe "/p" a\n'
        "subjcon uid 5 b\ntype_transition a b : enclave c;\n"
    )
    (tmp_path / "p.identity").write_text(
        IDENTITY + "op=ENCLAVE_INIT isvsvn>=3 grant=mapwx,execanon label=c action=ALLOW\n"
    )
    (tmp_path / "i.integrity").write_text("measure uid=5\ndont_appraise func=ENCLAVE_LOAD\n")
    return tmp_path


def outcomes(folder: Path, text: str) -> list[Outcome]:
    (folder / "x.test").write_text(f"policy m.te p.identity i.integrity\n{text}\n")
    return check_expectations(str(folder / "x.test"))


GOOD = [
    "allow a b use",
    "allow a b use load",
    "deny a b map_exec init",
    "deny b a use",
    "type file=/x b",
    "type file=/y unlabeled_t",
    "type exe=/p a",
    "type uid=5 b",
    "type label=q unlabeled_t",
    "transition a b c",
    "transition b a a",
    "ALLOW op=ENCLAVE_INIT isvsvn=3",
    "ALLOW op=ENCLAVE_INIT isvsvn=4 grant=execanon,mapwx label=c",
    "ALLOW op=ENCLAVE_CREATE",
    "DENY op=ENCLAVE_INIT isvsvn=2",
    "DENY op=ENCLAVE_INIT",
    "measure func=ENCLAVE_LOAD uid=5",
    "dont_measure func=ENCLAVE_LOAD uid=6",
    "dont_appraise func=ENCLAVE_LOAD",
]
BAD = [
    ("allow a b use map_exec", "map_exec: deny"),
    ("deny a b load", "load: allow, by"),
    ("type file=/x a", "b, by"),
    ("type exe=/q a", "unlabeled_t, by no rule"),
    ("transition a b b", "c, by"),
    ("ALLOW op=ENCLAVE_INIT", "DENY, by"),
    ("DENY op=ENCLAVE_INIT isvsvn=3", "ALLOW, by"),
    ("ALLOW op=ENCLAVE_INIT isvsvn=3 grant=mapwx", "grant=mapwx,execanon"),
    ("ALLOW op=ENCLAVE_INIT isvsvn=3 label=b", "label=c"),
    ("measure func=ENCLAVE_LOAD uid=6", "dont_measure, no rule matches"),
    ("appraise func=ENCLAVE_LOAD", "dont_appraise, by"),
]
SENSELESS = [
    "allow a b",
    "allow a nobody use",
    "allow a b fly",
    "type /x b",
    "type uid=x b",
    "transition a b",
    "ALLOW isvsvn=3",
    "ALLOW op=ENCLAVE_INIT colour=red",
    "ALLOW op=ENCLAVE_INIT isvsvn=x",
    "DENY op=ENCLAVE_INIT isvsvn=1 isvsvn=2",
    "measure uid=5",
    "audit func=ENCLAVE_LOAD",
    "allow",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_so_holds(folder: Path, text: str) -> None:
    (outcome,) = outcomes(folder, f"expect {text}  # a comment")
    assert (outcome.holds, outcome.found) == (True, "")


@pytest.mark.parametrize(("text", "found"), BAD)
def test_what_is_not_so_says_what_is_and_by_which_rule(folder: Path, text: str, found: str) -> None:
    (outcome,) = outcomes(folder, f"\nexpect {text}")
    assert not outcome.holds
    assert outcome.found.startswith(found)
    assert outcome.rule.place.line == 3


@pytest.mark.parametrize("text", SENSELESS)
def test_what_cannot_be_asked_is_a_mistake_of_the_file(folder: Path, text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        outcomes(folder, f"expect {text}\nexpect")
    assert [problem.place.line for problem in caught.value.problems] == [2, 3]


def test_assertions_about_a_kind_that_is_not_loaded_are_mistakes(folder: Path) -> None:
    (folder / "y.test").write_text(
        "policy i.integrity\nexpect allow a b use\nexpect type uid=5 b\nexpect transition a b c\n"
        "expect DENY op=ENCLAVE_INIT\npolicy m.te\nexpect measure func=ENCLAVE_LOAD\npolicy\nrubbish"
    )
    with pytest.raises(PolicyError) as caught:
        check_expectations(str(folder / "y.test"))
    assert [problem.place.line for problem in caught.value.problems] == [2, 3, 4, 5, 7, 8, 9]


def test_a_policy_line_comes_first(folder: Path) -> None:
    (folder / "z.test").write_text("expect allow a b use")
    with pytest.raises(PolicyError, match="policy FILES"):
        check_expectations(str(folder / "z.test"))
    assert check_expectations(str(folder / "z.test"), [str(folder / "m.te")])[0].holds


def test_the_assertions_of_the_example_policy_hold(checkout: Path) -> None:
    tried = check_expectations(str(checkout / "examples/policies/acme.test"))
    assert len(tried) > 10
    assert [outcome.found for outcome in tried if not outcome.holds] == []
