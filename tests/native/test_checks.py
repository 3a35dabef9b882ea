"""What the monitor refuses has a number in C and words in Python: each number has words, and none is of no use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from swsgx.cpu.enclu.refusals import RULES, reason_of
from swsgx.isa.flags import PageType
from swsgx.isa.vectors import Vector
from swsgx.native.abi import Check, EpcmState, LogicalProcessor

CHECKS = [check for check in Check if check is not Check.NONE]


def remembered(check: Check, **fields: int) -> LogicalProcessor:
    """What the monitor leaves of a refusal."""
    values = {"vector": Vector.GP, "address": 0x7000_1000, "expected": 0x3, "found": 0x10201}
    return LogicalProcessor.of(check=check, **(values | fields))


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_has_words(check: Check) -> None:
    reason = reason_of(remembered(check))
    for part in (reason.operation, reason.rule, reason.expected, reason.found, reason.source):
        assert part.strip() == part != ""
        assert not re.search(r"[{}]", part), "a placeholder was left"


def test_no_words_are_left_of_checks_that_are_gone() -> None:
    assert set(RULES) == set(CHECKS)


def test_no_two_checks_say_the_same() -> None:
    said = [(rule.operation, rule.rule) for rule in RULES.values()]
    assert len(said) == len(set(said))


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_is_made_somewhere_in_the_monitor(checkout: Path, check: Check) -> None:
    code = "".join(path.read_text() for path in sorted((checkout / "native" / "monitor").glob("*.[cS]")))
    assert re.search(rf"\bCHECK_{check.name}\b", code)


def test_a_page_is_told_with_type_permissions_and_state() -> None:
    found = 1 | PageType.TRIM << 8 | (EpcmState.VALID | EpcmState.MODIFIED | EpcmState.BLOCKED) << 16
    reason = reason_of(remembered(Check.SSA_EPCM, found=found))
    assert reason.found == "TRIM R-- BLOCKED MODIFIED at 0x70001000"


def test_a_page_type_that_nobody_knows_is_told_as_a_number() -> None:
    assert "type 200 -W-" in reason_of(remembered(Check.PAGE_EPCM, found=2 | 200 << 8)).found


def test_an_exception_is_told_by_its_mnemonic() -> None:
    assert reason_of(remembered(Check.EXCEPTION, vector=Vector.DE)).found == "#DE"


def test_a_vector_that_nobody_knows_is_told_as_a_number() -> None:
    assert reason_of(remembered(Check.EXCEPTION, vector=99)).found == "vector 99"


@pytest.mark.parametrize(("bits", "letters"), [(1, "R"), (2, "W"), (4, "X"), (3, "RW"), (5, "RX")])
def test_the_wanted_permission_is_told_in_letters(bits: int, letters: str) -> None:
    reason = reason_of(remembered(Check.PAGE_VMA, expected=bits))
    assert reason.expected.split()[-1] == letters


def test_a_number_that_is_no_check_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="999 is not a valid Check"):
        reason_of(LogicalProcessor.of(check=999))
