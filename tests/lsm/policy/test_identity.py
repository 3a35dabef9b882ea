"""Identity rules: the first that matches decides; and every mistake has its place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from swsgx.lsm.policy.errors import PolicyError
from swsgx.lsm.policy.identity import IdentityFacts, IdentityRule, compare_versions
from swsgx.lsm.policy.load import check_reload
from tests.lsm.policy.conftest import IDENTITY, Load, Mistakes

ONE, TWO = "11" * 32, "22" * 32
FACTS = IdentityFacts(
    op="ENCLAVE_INIT",
    mrenclave=bytes.fromhex(ONE),
    mrsigner=bytes.fromhex(TWO),
    sigstruct=bytes.fromhex(ONE),
    isvprodid=7,
    isvsvn=3,
    debug=False,
    provision_key=False,
    xfrm=3,
    miscselect=0,
    unmeasured_exec=False,
    uid=1000,
    subj_type="a_t",
)


def decided(loaded: Load, text: str, **facts: Any) -> IdentityRule:
    identity = loaded(IDENTITY + text).identity
    assert identity is not None
    rule = identity.decide(dataclasses.replace(FACTS, **facts))
    assert rule is not None
    return rule


@pytest.mark.parametrize(
    "condition",
    [
        f"mrenclave=sha256:{ONE}",
        f"mrenclave={ONE}",
        f"mrsigner=sha256:{TWO.upper()}",
        f"sigstruct=sha256:{ONE}",
        "isvprodid=7",
        "isvsvn=3",
        "isvsvn>=3",
        "isvsvn<=3",
        "isvsvn>=2 isvsvn<=4",
        "debug=FALSE",
        "provision_key=FALSE",
        "unmeasured_exec=FALSE",
        "xfrm=0x3",
        "miscselect=0",
        "uid=1000",
        "uid>=1000",
        "subj_type=a_t",
        'subj_type="a_t"',
        f"mrsigner={TWO} isvprodid=7 isvsvn>=3",
    ],
)
def test_a_rule_matches_if_its_conditions_hold(loaded: Load, condition: str) -> None:
    assert decided(loaded, f"op=ENCLAVE_INIT {condition} action=ALLOW").allow


@pytest.mark.parametrize(
    "condition",
    [
        f"mrenclave={TWO}",
        f"mrsigner={ONE}",
        f"sigstruct={TWO}",
        "isvprodid=8",
        "isvsvn>=4",
        "isvsvn<=2",
        "debug=TRUE",
        "unmeasured_exec=TRUE",
        "xfrm=7",
        "xfrm=1",
        "uid=0",
        "uid<=999",
        "subj_type=b_t",
        f"mrsigner={TWO} isvprodid=7 isvsvn>=4",
        f"mrenclave={ONE} debug=TRUE",
    ],
)
def test_a_rule_does_not_match_if_one_condition_does_not_hold(loaded: Load, condition: str) -> None:
    rule = decided(loaded, f"op=ENCLAVE_INIT {condition} action=ALLOW")
    assert not rule.allow
    assert rule.default


@pytest.mark.parametrize("key", ["mrenclave", "mrsigner", "isvsvn", "debug", "subj_type", "uid"])
def test_what_is_not_known_matches_no_condition(loaded: Load, key: str) -> None:
    value = {
        "mrenclave": ONE,
        "mrsigner": TWO,
        "isvsvn": "3",
        "debug": "FALSE",
        "subj_type": "a_t",
        "uid": "1000",
    }
    text = f"op=ENCLAVE_INIT {key}={value[key]} action=ALLOW"
    assert decided(loaded, text).allow
    assert not decided(loaded, text, **{key: None}).allow


def test_facts_that_are_missing_are_told_to_who_enforces() -> None:
    assert FACTS.unknown == ()
    assert dataclasses.replace(FACTS, debug=None, uid=None).unknown == ("debug", "uid")
    assert IdentityFacts(op="ENCLAVE_DEBUG", uid=0, subj_type="a").unknown == (
        "mrenclave",
        "mrsigner",
        "isvprodid",
        "isvsvn",
        "write",
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_the_first_rule_that_matches_decides_whatever_it_is_kept_under(
    loaded: Load, order: tuple[int, ...]
) -> None:
    conditions = (f"mrenclave={ONE}", f"mrsigner={TWO}", "isvsvn>=3")
    text = "\n".join(f"op=ENCLAVE_INIT {conditions[n]} action=ALLOW" for n in order)
    assert decided(loaded, text).rule.place.line == 3


def test_a_rule_gives_grants_and_a_label(loaded: Load) -> None:
    rule = decided(loaded, "op=ENCLAVE_INIT grant=execanon,execdirty label=jit_t action=ALLOW")
    assert rule.grants == ("execanon", "execdirty")
    assert rule.label == "jit_t"


def test_an_operation_of_which_the_policy_says_nothing_is_not_judged(loaded: Load) -> None:
    identity = loaded(IDENTITY).identity
    assert identity is not None
    assert identity.decide(IdentityFacts(op="ENCLAVE_DEBUG")) is None


def test_a_default_without_operation_is_for_all_that_have_none(loaded: Load) -> None:
    identity = loaded(
        "policy_name=p policy_version=1.0.0\nDEFAULT action=DENY\nDEFAULT op=ENCLAVE_INIT action=ALLOW"
    ).identity
    assert identity is not None
    answers = [identity.decide(IdentityFacts(op=op)) for op in ("ENCLAVE_INIT", "ENCLAVE_DEBUG")]
    assert [answer is not None and answer.allow for answer in answers] == [True, False]


@pytest.mark.parametrize(
    ("line", "column", "found"),
    [
        ("op=ENCLAVE_EXIT action=ALLOW", 4, "'ENCLAVE_EXIT'"),
        ("op=ENCLAVE_INIT mrenclav=1 action=ALLOW", 17, "'mrenclav'"),
        ("op=ENCLAVE_INIT size=1 action=ALLOW", 17, "'size'"),
        ("op=ENCLAVE_INIT mrenclave=sha256:00 action=ALLOW", 27, "'sha256:00'"),
        (f"op=ENCLAVE_INIT mrenclave>={ONE} action=ALLOW", 26, "'>='"),
        ("op=ENCLAVE_INIT debug=true action=ALLOW", 23, "'true'"),
        ("op=ENCLAVE_INIT debug>=TRUE action=ALLOW", 22, "'>='"),
        ("op=ENCLAVE_INIT isvsvn=65536 action=ALLOW", 24, "'65536'"),
        ("op=ENCLAVE_INIT isvsvn=-1 action=ALLOW", 24, "'-1'"),
        ("op=ENCLAVE_INIT isvsvn=١ action=ALLOW", 24, "'١'"),
        ("op=ENCLAVE_INIT isvsvn<3 action=ALLOW", 23, "'<'"),
        ("op=ENCLAVE_INIT isvsvn=1 isvsvn=2 action=ALLOW", 26, "'isvsvn'"),
        ("op=ENCLAVE_INIT isvsvn=1 isvsvn>=1 action=ALLOW", 26, "'isvsvn'"),
        ("op=ENCLAVE_INIT isvsvn>=1 isvsvn>=2 action=ALLOW", 27, "'isvsvn'"),
        ("op=ENCLAVE_INIT isvsvn>=4 isvsvn<=3 action=ALLOW", 17, "'isvsvn'"),
        ("op=ENCLAVE_INIT op=ENCLAVE_INIT action=ALLOW", 17, "'op'"),
        ("op=ENCLAVE_INIT grant=fly action=ALLOW", 23, "'fly'"),
        ("op=ENCLAVE_INIT grant=mapwx,mapwx action=ALLOW", 23, "'mapwx,mapwx'"),
        ("op=ENCLAVE_INIT grant=mapwx action=DENY", 17, "'grant'"),
        ("op=ENCLAVE_CREATE label=a_t action=ALLOW", 19, "'label'"),
        ("op=ENCLAVE_INIT label=7 action=ALLOW", 23, "'7'"),
        ("op=ENCLAVE_INIT action=PERHAPS", 24, "'PERHAPS'"),
        ("op=ENCLAVE_INIT debug=TRUE", 17, "'debug'"),
        ("op=ENCLAVE_INIT action=ALLOW debug=TRUE", 30, "'debug'"),
        ("debug=TRUE op=ENCLAVE_INIT action=ALLOW", 1, "'debug'"),
        ("what=TRUE", 1, "'what'"),
        ("DEFAULT op=ENCLAVE_INIT action=DENY", 9, "'op'"),
        ("DEFAULT op=ENCLAVE_CREATE", 9, "'op'"),
        ("DEFAULT op=ENCLAVE_CREATE debug=TRUE action=DENY", 27, "'debug'"),
        ("DEFAULT", 8, "the end of the statement"),
        ("policy_name=q policy_version=1.0.0", 1, "'policy_name'"),
        ("op=ENCLAVE_CREATE action=ALLOW", 4, "none for ENCLAVE_CREATE"),
        ("op = ENCLAVE_INIT action=ALLOW", 4, "'='"),
        ("op=ENCLAVE_INIT ALLOW", 17, "'ALLOW'"),
        ("op=ENCLAVE_INIT action=", 17, "'action='"),
        ("permit", 7, "the end of the statement"),
    ],
)
def test_a_mistake_is_told_where_it_is(mistakes: Mistakes, line: str, column: int, found: str) -> None:
    (problem,) = mistakes(IDENTITY + line)
    assert (problem.place.line, problem.place.column, problem.found) == (3, column, found)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", "debug=TRUE"),
        ("debug=TRUE", "debug=TRUE"),
        ("isvsvn>=3", "isvsvn>=3"),
        ("isvsvn>=3", "isvsvn=4"),
        ("isvsvn<=3", "isvsvn>=1 isvsvn<=2"),
        (f"mrsigner={ONE}", f"mrsigner={ONE} isvprodid=1"),
        (f"mrsigner={ONE} isvprodid=1", f"isvprodid=1 debug=TRUE mrsigner={ONE}"),
        ("isvprodid=1", f"mrenclave={ONE} isvprodid=1"),
        ("uid<=5", "uid=5 debug=TRUE"),
    ],
)
def test_a_rule_that_an_earlier_one_leaves_nothing_for_is_a_mistake(
    mistakes: Mistakes, first: str, second: str
) -> None:
    between = f"op=ENCLAVE_INIT mrsigner={TWO} xfrm=3 action=ALLOW\n"
    rules = f"op=ENCLAVE_INIT {first} action=ALLOW\nop=ENCLAVE_INIT {second} action=DENY"
    (problem,) = mistakes(IDENTITY + (between if first else "") + rules)
    assert problem.rule == "a rule can be reached"
    assert problem.other is not None
    assert problem.other.line == problem.place.line - 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("debug=TRUE", ""),
        ("debug=TRUE", "debug=FALSE"),
        ("isvsvn>=3", "isvsvn>=2"),
        ("isvsvn>=3", "isvsvn<=3"),
        (f"mrsigner={ONE}", f"mrsigner={TWO}"),
        (f"mrsigner={ONE}", f"mrenclave={ONE}"),
        (f"mrsigner={ONE} isvprodid=1", f"mrsigner={ONE}"),
    ],
)
def test_a_rule_that_has_something_left_is_none(loaded: Load, first: str, second: str) -> None:
    loaded(IDENTITY + f"op=ENCLAVE_INIT {first} action=ALLOW\nop=ENCLAVE_INIT {second} action=DENY")


@pytest.mark.parametrize(
    "header",
    [
        "DEFAULT op=ENCLAVE_INIT action=DENY",
        "policy_version=1.0.0 policy_name=p",
        "policy_name=p",
        "policy_name=p policy_version=1.0",
        "policy_name=p policy_version=a.b.c",
        "policy_name=p policy_version>=1.0.0",
        "policy_name=p policy_version=1.0.0 debug=TRUE",
    ],
)
def test_a_header_is_a_name_and_three_numbers(mistakes: Mistakes, header: str) -> None:
    (problem, *_) = mistakes(header + "\nDEFAULT op=ENCLAVE_CREATE action=DENY\n")
    assert problem.place.line == 1


def test_a_policy_without_a_default_for_init_is_a_mistake(mistakes: Mistakes) -> None:
    (problem,) = mistakes("policy_name=p policy_version=1.0.0")
    assert "DEFAULT op=ENCLAVE_INIT" in problem.expected


def test_a_second_identity_policy_is_a_mistake(mistakes: Mistakes) -> None:
    (problem,) = mistakes(IDENTITY, IDENTITY)
    assert problem.place.file == "f1"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("1.0.0", "1.0.0", 0),
        ("1.0.10", "1.0.9", 1),
        ("1.9.9", "2.0.0", -1),
        ("1.0", "1.0.0", 0),
        ("1.0", "1.0.1", -1),
    ],
)
def test_versions_compare_by_number(one: str, other: str, expected: int) -> None:
    assert compare_versions(one, other) == expected


def test_a_policy_of_the_same_name_may_not_go_back(loaded: Load) -> None:
    new, old = loaded(IDENTITY.replace("1.0.0", "1.2.0")), loaded(IDENTITY)
    check_reload(old, new)
    check_reload(old, old)
    check_reload(new, loaded(IDENTITY.replace("policy_name=p", "policy_name=q")))
    check_reload(new, loaded("measure"))
    with pytest.raises(
        PolicyError, match=r"found 1\.0\.0, expected 1\.2\.0, which is loaded, or newer"
    ) as caught:
        check_reload(new, old)
    assert caught.value.problems[0].place == ("f0", 1, 30)
