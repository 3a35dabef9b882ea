"""Running programs under ``swsgx run`` as a user would, and compiling small ones to run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["SWSGX_RUN", "compiled", "run"]

_SOURCE = Path(__file__).resolve().parents[2] / "src"
#: What stands before a program and its arguments.
SWSGX_RUN = [sys.executable, "-c", "from swsgx.cli.entry import main; main()", "run", "--"]


def environment() -> dict[str, str]:
    """Ours, with the checkout's swsgx."""
    return {**os.environ, "PYTHONPATH": str(_SOURCE), "SWSGX_TRACEBACK": "1"}


def run(words: Sequence[str | Path], under: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, ``under`` supervision or without."""
    command = [*(SWSGX_RUN if under else []), *map(str, words)]
    return subprocess.run(
        command, **{"env": environment(), "capture_output": True, "text": True, "timeout": 60, **options}
    )


def compiled(source: str, folder: Path, *flags: str, name: str = "program") -> Path:
    """A C program, built in ``folder``."""
    (folder / f"{name}.c").write_text(source, encoding="utf-8")
    program = folder / name
    subprocess.run(
        ["cc", "-O1", "-pthread", *flags, "-o", str(program), str(folder / f"{name}.c")],
        check=True,
        timeout=60,
    )
    return program
