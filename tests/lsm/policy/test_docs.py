"""What docs/policy.md shows is so: its examples load, its mistakes are told with these words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from swsgx.lsm.policy.errors import PolicyError
from swsgx.lsm.policy.expectations import check_expectations
from swsgx.lsm.policy.load import parse
from swsgx.lsm.policy.source import Source

BLOCK = re.compile(r"^```([a-z-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def blocks(checkout: Path) -> list[tuple[str, str]]:
    return BLOCK.findall((checkout / "docs/policy.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["te", "identity", "integrity"])
def test_the_example_of_each_kind_loads(kind: str, blocks: list[tuple[str, str]]) -> None:
    (text,) = [text for language, text in blocks if language == kind]
    (file,) = parse([Source("x", text.encode())]).files
    assert file.kind == kind


@pytest.mark.parametrize("kind", ["te", "identity", "integrity"])
def test_mistakes_are_told_as_shown(kind: str, blocks: list[tuple[str, str]]) -> None:
    at = next(i for i, (language, _) in enumerate(blocks) if language == f"{kind}-wrong")
    with pytest.raises(PolicyError) as caught:
        parse([Source(f"wrong.{kind}", blocks[at][1].encode())])
    told = "".join(f"{line}\n" for problem in caught.value.problems for line in problem.lines())
    assert blocks[at + 1] == ("text", told)


def test_the_assertions_hold_for_the_example_policy(
    checkout: Path, blocks: list[tuple[str, str]], tmp_path: Path
) -> None:
    (text,) = [text for language, text in blocks if language == "expectations"]
    (tmp_path / "acme.test").write_text(text)
    policies = [str(checkout / f"examples/policies/acme.{kind}") for kind in ("te", "identity", "integrity")]
    outcomes = check_expectations(str(tmp_path / "acme.test"), policies)
    assert len(outcomes) == 9
    assert [outcome.found for outcome in outcomes if not outcome.holds] == []


def test_each_key_permission_and_operation_is_in_the_reference(checkout: Path) -> None:
    from swsgx.lsm.policy import identity, integrity, te

    page = (checkout / "docs/policy.md").read_text(encoding="utf-8")
    words = {*identity.KEYS, *integrity.KEYS, *te.PERMISSIONS, *identity.OPERATIONS, *integrity.FUNCTIONS}
    assert [word for word in words if word not in page] == []
