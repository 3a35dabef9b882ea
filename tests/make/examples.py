"""The example enclaves, built in the test by their own Makefile."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NEEDS_TOOLS = pytest.mark.skipif(
    (shutil.which("gcc") is None and shutil.which("cc") is None) or shutil.which("make") is None,
    reason="builds C: install gcc and make to run these",
)


def build_examples(checkout: Path, out: Path) -> Path:
    """Build everything in ``examples/`` into ``out``, without a warning; returns ``out``."""
    done = subprocess.run(
        ["make", "-C", str(checkout / "examples"), f"OUT={out}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return out
