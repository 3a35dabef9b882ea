"""The bench of these tests: one small machine and buffers for operands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.make.inside import Room
from tests.make.leaves import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An SGX2 machine with 64 EPC pages."""
    made = Bench()
    yield made
    made.cpu.close()


@pytest.fixture
def room() -> Iterator[Room]:
    """An SGX2 machine with a thread inside an enclave."""
    made = Room()
    yield made
    made.cpu.close()
