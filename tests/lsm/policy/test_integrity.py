"""Integrity rules: the first of each action decides; and every mistake has its place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from swsgx.lsm.policy.integrity import IntegrityFacts, IntegrityRule
from tests.lsm.policy.conftest import TE, Load, Mistakes

FACTS = IntegrityFacts(
    func="ENCLAVE_LOAD", mask=5, obj_type="o_t", subj_type="s_t", uid=1000, fowner=0, fsname="ext4"
)


def decided(loaded: Load, text: str, action: str = "measure", **facts: Any) -> IntegrityRule | None:
    integrity = loaded(text).integrity
    assert integrity is not None
    return integrity.decide(action, dataclasses.replace(FACTS, **facts))


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "func=ENCLAVE_LOAD",
        "mask=MAY_EXEC",
        "mask=MAY_READ,MAY_EXEC",
        "obj_type=o_t",
        "subj_type=s_t",
        "uid=1000",
        "uid>999",
        "uid<1001",
        "fowner=0",
        "fowner<1",
        "fsname=ext4",
        "func=ENCLAVE_LOAD obj_type=o_t subj_type=s_t",
    ],
)
def test_a_rule_matches_if_its_conditions_hold(loaded: Load, condition: str) -> None:
    rule = decided(loaded, f"measure {condition}")
    assert rule is not None
    assert rule.applies


@pytest.mark.parametrize(
    "condition",
    [
        "func=ENCLAVE_INIT",
        "mask=MAY_WRITE",
        "mask=MAY_WRITE,MAY_EXEC",
        "obj_type=s_t",
        "uid>1000",
        "uid<1000",
        "fowner>0",
        "fsname=tmpfs",
    ],
)
def test_a_rule_does_not_match_if_one_condition_does_not_hold(loaded: Load, condition: str) -> None:
    assert decided(loaded, f"measure {condition}") is None


def test_the_first_match_decides_for_each_action_apart(loaded: Load) -> None:
    text = "dont_measure obj_type=o_t\nmeasure\nappraise\n"
    rule = decided(loaded, text)
    assert rule is not None
    assert (rule.applies, rule.rule.place.line) == (False, 1)
    other = decided(loaded, text, obj_type="x_t")
    assert other is not None
    assert other.rule.place.line == 2
    appraised = decided(loaded, text, "appraise")
    assert appraised is not None
    assert appraised.applies


def test_rules_of_several_files_follow_each_other(loaded: Load) -> None:
    integrity = loaded("dont_measure uid=1000", "measure").integrity
    assert integrity is not None
    rule = integrity.decide("measure", FACTS)
    assert rule is not None
    assert rule.rule.place.file == "f0"


def test_options_are_kept(loaded: Load) -> None:
    rule = decided(loaded, "measure func=ENCLAVE_LOAD template=encl-load pcr=11")
    assert rule is not None
    assert (rule.template, rule.pcr) == ("encl-load", 11)
    rule = decided(loaded, "appraise appraise_type=imasig appraise_algos=sha256,sha512", "appraise")
    assert rule is not None
    assert (rule.signed, rule.algorithms) == (True, ("sha256", "sha512"))


@pytest.mark.parametrize(
    ("line", "column", "found"),
    [
        ("measure func=ENCLAVE_EXIT", 14, "'ENCLAVE_EXIT'"),
        ("measure func=ENCLAVE_SIGSTRUCT", 14, "'ENCLAVE_SIGSTRUCT'"),
        ("appraise func=ENCLAVE_INIT", 15, "'ENCLAVE_INIT'"),
        ("dont_appraise func=ENCLAVE_AUG", 20, "'ENCLAVE_AUG'"),
        ("measure mask=EXEC", 14, "'EXEC'"),
        ("measure mask=", 9, "'mask='"),
        ("measure mask>=MAY_EXEC", 13, "'>='"),
        ("measure uid>=5", 12, "'>='"),
        ("measure uid<0", 9, "'uid'"),
        ("measure uid>5 uid<6", 9, "'uid'"),
        ("measure uid=5 uid=6", 15, "'uid'"),
        ("measure appraise_type=imasig", 9, "'appraise_type'"),
        ("appraise template=encl-load", 10, "'template'"),
        ("dont_measure pcr=1", 14, "'pcr'"),
        ("measure pcr=24", 13, "'24'"),
        ("measure template=encl-load", 18, "'encl-load'"),
        ("measure func=ENCLAVE_INIT template=encl-load", 36, "'encl-load'"),
        ("appraise appraise_algos=md5", 25, "'md5'"),
        ("appraise appraise_type=none", 24, "'none'"),
        ("measure colour=red", 9, "'colour'"),
        ("measure audit", 14, "the end of the statement"),
        ("audit func=ENCLAVE_LOAD", 1, "'audit'"),
        ("measure measure", 16, "the end of the statement"),
    ],
)
def test_a_mistake_is_told_where_it_is(mistakes: Mistakes, line: str, column: int, found: str) -> None:
    (problem,) = mistakes("measure uid=77\nappraise uid=77\n" + line)
    assert (problem.place.line, problem.place.column, problem.found) == (3, column, found)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("measure", "measure uid=1"),
        ("dont_measure mask=MAY_EXEC", "measure mask=MAY_EXEC,MAY_READ"),
        ("appraise uid>5", "dont_appraise uid>6"),
        ("measure obj_type=a", "measure obj_type=a"),
    ],
)
def test_a_rule_that_an_earlier_one_leaves_nothing_for_is_a_mistake(
    mistakes: Mistakes, first: str, second: str
) -> None:
    (problem,) = mistakes(f"{first}\n{second}")
    assert problem.place.line == 2
    assert problem.other is not None
    assert problem.other.line == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("measure", "appraise"),
        ("measure mask=MAY_EXEC,MAY_READ", "measure mask=MAY_EXEC"),
        ("measure uid>5", "measure uid<7"),
        ("measure func=ENCLAVE_LOAD", "measure func=ENCLAVE_INIT"),
    ],
)
def test_a_rule_that_has_something_left_is_none(loaded: Load, first: str, second: str) -> None:
    loaded(f"{first}\n{second}")


def test_types_that_rules_name_are_declared_if_there_is_type_enforcement(
    loaded: Load, mistakes: Mistakes
) -> None:
    text = "measure subj_type=a_t\nmeasure obj_type=b_t"
    loaded(text)
    loaded(text, TE + "type a_t; type b_t;")
    (problem,) = mistakes(text, TE + "type a_t;")
    assert (problem.place, problem.found) == (("f0", 2, 18), "'b_t'")
