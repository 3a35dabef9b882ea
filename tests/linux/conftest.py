"""The world of these tests: a machine, the driver, and a program, none of them real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swsgx.linux.profile import PROFILES, Profile
from tests.make.running import Running, run
from tests.make.world import World, make_world


@pytest.fixture
def world() -> Iterator[World]:
    """Upstream 6.12 on an SGX2 machine with 1024 pages of EPC."""
    made = make_world()
    yield made
    made.cpu.close()


@pytest.fixture(params=["6.12", "6.1"])
def upstream(request: pytest.FixtureRequest) -> Profile:
    """Each upstream kernel."""
    return PROFILES[request.param]


@pytest.fixture
def running(world: World) -> Iterator[Running]:
    """An initialised enclave that is mapped, with holes."""
    yield from run(world)
