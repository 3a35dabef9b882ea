"""What these tests stand on: a machine in our own process, in each of the ways it can run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from swsgx.inprocess import Sgx
from tests.make.probe import Probe, the_probe


@pytest.fixture
def sgx() -> Iterator[Sgx]:
    """A machine with the fast paths, and without isolation."""
    with Sgx(isolation="off") as made:
        yield made


#: The ways to run: patched exit sites; not a byte changed; out of the host's sight between entries.
MODES: dict[str, dict[str, Any]] = {
    "patched": {"isolation": "off", "patch": True},
    "unpatched": {"isolation": "off", "patch": False},
    "hidden": {"isolation": "hidden", "patch": True},
}


@pytest.fixture(params=MODES)
def each_sgx(request: pytest.FixtureRequest) -> Iterator[Sgx]:
    """A machine in each of these ways."""
    with Sgx(**MODES[request.param]) as made:
        yield made


@pytest.fixture
def probe() -> Probe:
    """The program with any registers."""
    return the_probe()
