"""The monitor's C under the address and undefined-behaviour sanitizers, over enclaves made of random tables."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROUNDS = 50_000


@pytest.fixture(scope="module")
def program(checkout: Path) -> Path:
    """The hosted build of the monitor (`make -C native sanitize`)."""
    built = subprocess.run(
        ["make", "-C", str(checkout / "native"), "sanitize"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return checkout / "build" / "native-sanitize" / "monitor_test"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_entries_and_exits_over_spoilt_tables_touch_nothing_they_should_not(program: Path, seed: int) -> None:
    """To see a failure again: `build/native-sanitize/monitor_test 50000 SEED`."""
    run = subprocess.run(
        [str(program), str(ROUNDS), str(seed)], capture_output=True, text=True, check=False, timeout=100
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{ROUNDS} rounds ok\n"
