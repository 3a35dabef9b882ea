"""What the tests of policies share: texts become policies, or the mistakes in them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swsgx.lsm.policy.errors import PolicyError, Problem
from swsgx.lsm.policy.load import PolicySet, parse
from swsgx.lsm.policy.source import Source

TE = "policy_module(m, 1.0)\n"
IDENTITY = "policy_name=p policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY\n"

Load = Callable[..., PolicySet]
Mistakes = Callable[..., tuple[Problem, ...]]


def _load(*texts: str | bytes) -> PolicySet:
    data = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return parse([Source(f"f{number}", one) for number, one in enumerate(data)])


@pytest.fixture
def loaded() -> Load:
    """A policy from texts; the files are called f0, f1 and so on."""
    return _load


@pytest.fixture
def mistakes() -> Mistakes:
    """What is wrong with a policy."""

    def find(*texts: str | bytes) -> tuple[Problem, ...]:
        with pytest.raises(PolicyError) as caught:
            _load(*texts)
        return caught.value.problems

    return find
