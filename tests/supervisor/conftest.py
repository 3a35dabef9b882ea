"""A host where a tree can be supervised, or a skip that says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make import supervised
from tests.make.policies import Place, policed_place
from tests.make.sgx_program import Programs


@pytest.fixture(scope="session", autouse=True)
def can_supervise() -> None:
    """Skips where the sandbox forbids it."""
    done = supervised.run(["true"])
    if done.returncode:
        pytest.skip(f"swsgx run does not work here: {done.stderr}")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The small SGX programs, built once for all workers and all runs: their names say from what."""
    folder = tmp_path_factory.getbasetemp()
    for parent in folder.parents:
        if parent.name.startswith("pytest-of-"):
            folder = parent
    return Programs(folder / "sgx-programs")


@pytest.fixture
def place(programs: Programs, tmp_path: Path) -> Place:
    """A folder for the programs about security modules."""
    return policed_place(programs, tmp_path)
