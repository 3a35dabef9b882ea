"""A host where a tree can be supervised, or a skip that says what is missing."""

from __future__ import annotations

import pytest

from tests.make.supervised import run


@pytest.fixture(scope="session", autouse=True)
def can_supervise() -> None:
    done = run(["true"])
    if done.returncode:
        pytest.skip(f"swsgx run does not work here (seccomp, ptrace allowed?): {done.stderr}")
