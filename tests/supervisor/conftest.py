"""A host where a tree can be supervised, or a skip that says what is missing; and the two ways to do it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.make import supervised


@pytest.fixture(scope="session")
def can_supervise() -> None:
    """Skips where the sandbox forbids it."""
    done = supervised.run(["true"])
    if done.returncode:
        pytest.skip(f"swsgx run does not work here (are seccomp and ptrace allowed?): {done.stderr}")


@pytest.fixture(params=[[], ["--trap-paths"]], ids=["plain", "trap"], autouse=True)
def way(request: pytest.FixtureRequest, can_supervise: None) -> Iterator[list[str]]:
    """Each test runs without and with path calls trapped."""
    supervised.options[:] = request.param
    yield supervised.options
    supervised.options.clear()
